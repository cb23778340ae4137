/**
 * Which images a Containerfile names, and the same text with a name of ours in place of each: inside the sandbox they
 * are found by that name and nothing is asked of a registry.
 * Deliberately absent: everything else of the language, which is buildah's.
 */
import { type Copy, DockerfileParser, type From, type Instruction, type Run } from 'dockerfile-ast';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { imageArchitecture } from '../../infra/oci/manifest.ts';

export interface Containerfile {
  /** As they are named, variables filled in; an image named twice is here once. */
  readonly images: readonly string[];
  /** Names them `localhost/build/images/<index>`. */
  readonly text: string;
}

interface Replacement {
  readonly start: number;
  readonly end: number;
  readonly image: string;
}

const IMAGES_MAX = 16;
const VARIABLE = /\$(?:\{(\w+)(?::([-+])([^}]*))?\}|(\w+))/g;

/** `args` are values for its `ARG`s. @throws SkiffError INVALID_SOURCE naming the line */
export function readContainerfile(
  source: string,
  file: string,
  args: Readonly<Record<string, string>> = {},
): Containerfile {
  const text = source.replace(/^\uFEFF/, '').replaceAll('\r\n', '\n');
  const document = DockerfileParser.parse(text);
  const variables = globalVariables(document.getInitialARGs(), args);
  const stages = new Set<string>();
  const found: Replacement[] = [];
  const offsets = lineOffsets(text);
  const note = (reference: NamedImage | undefined, instruction: Instruction): void => {
    if (!reference || stages.has(reference.name.toLowerCase())) return;
    const { start, end } = reference.range;
    if (reference.name === '') throw refuse(file, instruction, 'names no image');
    found.push({
      start: (offsets[start.line] as number) + start.character,
      end: (offsets[end.line] as number) + end.character,
      image: reference.name,
    });
  };
  for (const instruction of document.getInstructions()) {
    switch (instruction.getKeyword()) {
      case 'FROM': {
        const from = instruction as From;
        note(readFrom(from, variables), instruction);
        const stage = from.getBuildStage();
        if (stage !== null) stages.add(stage.toLowerCase());
        break;
      }
      case 'COPY':
        note(readCopy(instruction as Copy), instruction);
        break;
      case 'RUN':
        refuseMountedImages(instruction as Run, stages, file);
    }
  }
  if (!document.getInstructions().some((one) => one.getKeyword() === 'FROM'))
    throw new SkiffError('INVALID_SOURCE', `${file} has no FROM instruction`);
  return rewrite(text, found, file);
}

interface NamedImage {
  readonly name: string;
  readonly range: { start: { line: number; character: number }; end: { line: number; character: number } };
}

function readFrom(from: From, variables: ReadonlyMap<string, string>): NamedImage | undefined {
  const range = from.getImageRange();
  const written = from.getImage();
  if (range === null || written === null) return undefined;
  const name = expand(written, variables);
  return name.toLowerCase() === 'scratch' ? undefined : { name, range };
}

/** A number is a stage's place. */
function readCopy(copy: Copy): NamedImage | undefined {
  const flag = copy.getFromFlag();
  const name = flag?.getValue() ?? '';
  const range = flag?.getValueRange();
  return !range || /^\d+$/.test(name) ? undefined : { name, range };
}

function refuseMountedImages(run: Run, stages: ReadonlySet<string>, file: string): void {
  for (const flag of run.getFlags()) {
    const from = /(?:^|,)from=([^,]+)/.exec(flag.getValue() ?? '')?.[1];
    if (flag.getName() !== 'mount' || from === undefined) continue;
    if (/^\d+$/.test(from) || stages.has(from.toLowerCase())) continue;
    throw refuse(file, run, `mounts image "${from}"; give it a stage of its own: FROM ${from} AS name`);
  }
}

function rewrite(text: string, found: readonly Replacement[], file: string): Containerfile {
  const images = [...new Set(found.map(({ image }) => image))];
  if (images.length > IMAGES_MAX)
    throw new SkiffError(
      'INVALID_SOURCE',
      `${file} names ${images.length} images; the limit is ${IMAGES_MAX}`,
    );
  let result = text;
  for (const { start, end, image } of found.toSorted((a, b) => b.start - a.start)) {
    result = `${result.slice(0, start)}${stagedName(images.indexOf(image))}${result.slice(end)}`;
  }
  return { images, text: result };
}

/** What buildah calls an image it takes from the layout in /build/images/<index>. */
export function stagedName(index: number): string {
  return `localhost/build/images/${index}`;
}

function globalVariables(
  declared: readonly { getProperty(): unknown }[],
  args: Readonly<Record<string, string>>,
): Map<string, string> {
  const architecture = imageArchitecture();
  const variables = new Map<string, string>([
    ['TARGETPLATFORM', `linux/${architecture}`],
    ['TARGETOS', 'linux'],
    ['TARGETARCH', architecture],
    ['BUILDPLATFORM', `linux/${architecture}`],
    ['BUILDOS', 'linux'],
    ['BUILDARCH', architecture],
  ]);
  for (const arg of declared) {
    const property = arg.getProperty() as { getName(): string; getValue(): string | null } | null;
    if (!property) continue;
    const given = Object.hasOwn(args, property.getName()) ? args[property.getName()] : undefined;
    const value = given ?? property.getValue();
    if (typeof value === 'string')
      variables.set(property.getName(), given === undefined ? expand(value, variables) : value);
  }
  return variables;
}

function expand(text: string, variables: ReadonlyMap<string, string>): string {
  return text.replaceAll(VARIABLE, (_all, braced, operator, word, plain) => {
    const value = variables.get((braced ?? plain) as string) ?? '';
    if (operator === '-') return value === '' ? (word as string) : value;
    if (operator === '+') return value === '' ? '' : (word as string);
    return value;
  });
}

function lineOffsets(text: string): number[] {
  const offsets = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) offsets.push(at + 1);
  return offsets;
}

function refuse(file: string, instruction: Instruction, what: string): SkiffError {
  const line = instruction.getRange().start.line + 1;
  return new SkiffError('INVALID_SOURCE', `${file}:${line}: ${instruction.getKeyword()} ${what}`);
}
