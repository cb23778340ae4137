/** A whole compose file, and the words for what is wrong with one. */
import { z } from 'zod';
import { invalid, type YamlMap } from '../document/yaml-file.ts';
import { ServiceSchema } from './service.ts';
import { anything, assignments, flag, mapping, scalar, text, textOrList } from './words.ts';

const external = z.union([flag, mapping({ name: text.optional() })]).optional();
const options = z.record(z.string(), scalar).optional();
const labels = assignments.optional();

const network = mapping({
  name: text.optional(),
  driver: text.optional(),
  driver_opts: options,
  ipam: anything.optional(),
  external,
  internal: flag.optional(),
  enable_ipv4: flag.optional(),
  enable_ipv6: flag.optional(),
  attachable: flag.optional(),
  labels,
}).nullable();

const volume = mapping({
  name: text.optional(),
  driver: text.optional(),
  driver_opts: options,
  external,
  labels,
}).nullable();

const grant = {
  name: text.optional(),
  environment: text.optional(),
  file: text.optional(),
  external,
  labels,
  template_driver: text.optional(),
};

const Names = z.string().regex(/^[a-zA-Z0-9._-]+$/, 'a name has letters, digits, ".", "_" and "-"');

const FileSchema = mapping({
  version: z.union([text, z.number()]).optional(),
  name: text.optional(),
  include: z
    .array(
      z.union([
        text,
        mapping({ path: textOrList, project_directory: text.optional(), env_file: textOrList.optional() }),
      ]),
    )
    .optional(),
  services: z.record(Names, ServiceSchema).nullable().optional(),
  networks: z.record(Names, network).nullable().optional(),
  volumes: z.record(Names, volume).nullable().optional(),
  secrets: z
    .record(Names, mapping({ ...grant, driver: text.optional(), driver_opts: options }))
    .nullable()
    .optional(),
  configs: z
    .record(Names, mapping({ ...grant, content: text.optional() }))
    .nullable()
    .optional(),
  models: anything.optional(),
});

const ISSUES_SHOWN_MAX = 5;

/** @throws SkiffError INVALID_CONFIG with each place and what it may be */
export function checkFile(value: YamlMap, file: string): void {
  const parsed = FileSchema.safeParse(value);
  if (parsed.success) return;
  const issues = parsed.error.issues.flatMap((issue) => flatten(issue, []));
  const shown = issues
    .slice(0, ISSUES_SHOWN_MAX)
    .map(({ path, message }) => `${file}: ${path.join('.')} ${message}`);
  const more = issues.length - shown.length;
  throw invalid([...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('\n'));
}

interface PlainIssue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** Of a union, what the most fitting alternative says: the one that was understood furthest. */
function flatten(issue: z.core.$ZodIssue, prefix: readonly PropertyKey[]): PlainIssue[] {
  const path = [...prefix, ...issue.path];
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input'))
    return [{ path, message: `must be ${WORDS[issue.expected] ?? `a ${issue.expected}`}` }];
  if (issue.code === 'invalid_key') return issue.issues.flatMap((inner) => flatten(inner, path));
  if (issue.code !== 'invalid_union') return [{ path, message: issue.message.replace(/^I/, 'i') }];
  const alternatives = issue.errors.map((errors) => errors.flatMap((error) => flatten(error, path)));
  const deepest = Math.max(...alternatives.flat().map((one) => one.path.length));
  const best = alternatives.find((issues) => issues.some((one) => one.path.length === deepest));
  if (best !== undefined && deepest > path.length) return best;
  return [
    { path, message: issue.message === 'Invalid input' ? 'has a form that is not allowed' : issue.message },
  ];
}

const WORDS: Readonly<Record<string, string>> = {
  object: 'a mapping',
  record: 'a mapping',
  array: 'a list',
  string: 'a text',
  number: 'a number',
};
