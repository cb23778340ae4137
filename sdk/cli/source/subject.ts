/** What a deploy or a build is of: a file, a folder, standard input, or an image of a registry. */
import { basename, resolve } from 'node:path';
import type { DeployOptions } from '../../client/index.ts';
import { formatBytes, plural } from '../output/quantities.ts';
import type { Session } from '../session.ts';
import { findSource, suggestName, toName, type SourceFile } from './files.ts';
import { measureSource, packSource } from './pack.ts';
import { readPipedSource } from './stdin.ts';

export type What = Pick<DeployOptions, 'source' | 'image'>;

const NOTHING = (): void => {};

export interface Subject extends Disposable {
  readonly what: What;
  /** What the function is called unless its author says. */
  readonly name: string;
  readonly entry: string | undefined;
  /** For the line of the upload. */
  readonly size: string;
  /** Of a folder or file. */
  readonly files?: readonly SourceFile[];
}

interface SubjectOptions {
  readonly image?: string | undefined;
  readonly entry?: string | undefined;
  readonly runtime?: string | undefined;
}

/** @throws CliFailure when there is nothing to send, or too much */
export async function chooseSubject(
  path: string,
  options: SubjectOptions,
  session: Session,
): Promise<Subject> {
  if (options.image !== undefined) return chooseImage(options.image);
  if (path !== '-') return chooseSource(path, session);
  const file = options.entry ?? (options.runtime?.startsWith('python') ? 'main.py' : 'index.ts');
  const piped = await readPipedSource(session.stdin, session.stdin.isTTY, basename(file));
  if ('archive' in piped)
    return {
      what: { source: piped.archive },
      name: '',
      entry: undefined,
      size: `an archive, ${formatBytes(piped.archive.length)}`,
      [Symbol.dispose]: NOTHING,
    };
  return {
    ...chooseSource(piped.folder, session),
    name: '',
    entry: piped.entry,
    [Symbol.dispose]: piped.remove,
  };
}

function chooseSource(path: string, session: Session): Subject {
  const source = findSource(resolve(session.cwd, path));
  const bytes = measureSource(source.files);
  for (const link of source.skipped) session.output.err.line(`left out ${link}: not a file of this folder`);
  return {
    what: { source: () => packSource(source.files) },
    name: suggestName(source),
    entry: source.entry,
    size: `${plural(source.files.length, 'file')}, ${formatBytes(bytes)}`,
    files: source.files,
    [Symbol.dispose]: NOTHING,
  };
}

function chooseImage(image: string): Subject {
  const path = image.replace(/@.*$/, '').replace(/:[^:/]*$/, '');
  return {
    what: { image },
    name: toName(path.slice(path.lastIndexOf('/') + 1)),
    entry: undefined,
    size: image,
    [Symbol.dispose]: NOTHING,
  };
}
