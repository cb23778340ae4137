/**
 * Judges a file by the Compose Specification's own JSON schema (compose-spec.json, as its authors publish it).
 * Invariant: whatever file.ts lets through and the specification does not is refused here, by the name of its place.
 * The validator is loaded with the first file and not before, so that other commands do not wait for it.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Ajv2020, ErrorObject, ValidateFunction } from 'ajv/dist/2020.js';
import { invalid, type YamlMap } from '../document/yaml-file.ts';

let validate: ValidateFunction | undefined;

function load(): ValidateFunction {
  if (validate) return validate;
  const require = createRequire(import.meta.url);
  const { Ajv2020: Validator } = require('ajv/dist/2020.js') as { Ajv2020: typeof Ajv2020 };
  const schema = JSON.parse(readFileSync(new URL('compose-spec.json', import.meta.url), 'utf8')) as object;
  const ajv = new Validator({
    strict: false,
    // Its formats (duration, ports) are read by us, with the value in the message.
    validateFormats: false,
    allErrors: true,
    verbose: true,
    // It is used once in a process: what makes it quicker to use and slower to make is off (170 ms became 85).
    validateSchema: false,
    meta: false,
    inlineRefs: false,
    code: { optimize: false },
  });
  return (validate = ajv.compile(schema));
}

const SHOWN_MAX = 5;

/** @throws SkiffError INVALID_CONFIG with each place and what it may be */
export function checkSpecification(value: YamlMap, file: string): void {
  const isValid = load();
  if (isValid(value)) return;
  const lines = describe(isValid.errors ?? []);
  const more = lines.length - SHOWN_MAX;
  throw invalid(
    [
      ...lines.slice(0, SHOWN_MAX).map((line) => `${file}: ${line}`),
      ...(more > 0 ? [`and ${more} more`] : []),
    ].join('\n'),
  );
}

/** Of a choice of forms, what was understood furthest; the choice itself says nothing beside that. */
function describe(errors: readonly ErrorObject[]): string[] {
  const telling = errors.filter(({ keyword }) => keyword !== 'oneOf' && keyword !== 'anyOf');
  const deepest = telling.filter(
    ({ instancePath, keyword }) =>
      keyword !== 'type' ||
      !telling.some(
        (other) =>
          other.instancePath.startsWith(`${instancePath}/`) ||
          (other.instancePath === instancePath && other.keyword !== 'type'),
      ),
  );
  const byPlace = new Map<string, Set<string>>();
  for (const error of deepest) {
    const place = error.instancePath
      .slice(1)
      .replaceAll('/', '.')
      .replaceAll('~1', '/')
      .replaceAll('~0', '~');
    byPlace.set(place, (byPlace.get(place) ?? new Set()).add(explain(error)));
  }
  return [...byPlace].map(([place, words]) => `${place || 'the file'} ${[...words].join(', or ')}`);
}

function explain({ keyword, params, message, data }: ErrorObject): string {
  const details = params as Record<string, unknown>;
  switch (keyword) {
    case 'additionalProperties':
    case 'unevaluatedProperties':
      return `has "${String(details['additionalProperty'] ?? details['unevaluatedProperty'])}", which the specification does not know`;
    case 'type':
      return `must be ${[details['type']]
        .flat()
        .map((type) => WORDS[String(type)] ?? type)
        .join(' or ')}`;
    case 'enum':
      return `is ${JSON.stringify(data)}; it may be ${(details['allowedValues'] as unknown[]).join(', ')}`;
    default:
      return message ?? 'has a form that is not allowed';
  }
}

const WORDS: Readonly<Record<string, string>> = {
  object: 'a mapping',
  array: 'a list',
  string: 'a text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  null: 'empty',
};
