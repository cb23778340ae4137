/**
 * What an install of Python packages needs from the source: requirements.txt with the files it includes.
 * Invariant: only packages of the index can be asked for, by name; nothing in these files can name another place.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { isFileWithin, type SourceTree, tryNormalizePath } from '../../source/tree.ts';
import type { InstallPlan } from '../tool.ts';

/** Raised when an install gives another result for the same input. */
const PLAN_VERSION = 1;
const MAIN_FILE = 'requirements.txt';
const FILES_MAX = 50;
const FILE_BYTES_MAX = 1024 * 1024;
/** A name, extras, versions, a marker, hashes (PEP 508 without URLs). */
const REQUIREMENT = /^[A-Za-z0-9][\w.-]*\s*(?:\[[\w\s,.-]*\])?\s*(?:[(<>=!~][^;@]*)?(?:;[^@]*)?$/;
const INCLUDE = /^(?:-r|-c|--requirement|--constraint)(?:\s+|=)(\S+)$/;
const HASH_OPTION = /\s--hash[=\s]sha\d+:[0-9a-f]+/g;

export async function planPip(tree: SourceTree, runtime: string): Promise<InstallPlan | undefined> {
  if (!tree.names.includes(MAIN_FILE)) return undefined;
  const files = new Map<string, string>();
  await collect(tree.root, MAIN_FILE, files);
  const asked = [...files.values()].flatMap(readLines);
  if (!asked.some((line) => REQUIREMENT.test(line.replace(HASH_OPTION, '')))) return undefined;
  const list = [...files].map(([path, text]) => ({ path, text }));
  const hash = createHash('sha256').update(
    JSON.stringify(['pip', PLAN_VERSION, runtime, process.arch, list]),
  );
  const loose = asked.filter((line) => !INCLUDE.test(line) && !/===?/.test(line));
  return {
    key: hash.digest('hex'),
    title: 'pip install',
    files: list,
    args: ['-r', MAIN_FILE],
    hasLocalPackages: false,
    warnings:
      loose.length === 0
        ? []
        : [
            `${loose[0]} has no exact version: it is chosen anew when requirements.txt changes; pip freeze writes exact ones`,
          ],
  };
}

/** Reads a file and those it includes, refusing what is not a requirement. */
async function collect(root: string, path: string, files: Map<string, string>): Promise<void> {
  if (files.has(path)) return;
  if (files.size >= FILES_MAX || !(await isFileWithin(root, path)))
    throw refuse(path, `it is not a file of the upload, or there are more than ${FILES_MAX}`);
  const text = (await readFile(join(root, path), 'utf8')).replace(/^\uFEFF/, '');
  if (text.length > FILE_BYTES_MAX) throw refuse(path, `it has more than ${FILE_BYTES_MAX} characters`);
  files.set(path, text);
  for (const line of readLines(text)) {
    const included = INCLUDE.exec(line)?.[1];
    if (included !== undefined) {
      const target = tryNormalizePath(posix.join(posix.dirname(path), included));
      if (target === undefined) throw refuse(path, `"${line}" leads out of the upload`);
      await collect(root, target, files);
    } else if (!REQUIREMENT.test(line.replace(HASH_OPTION, ''))) {
      throw refuse(
        path,
        `"${line.slice(0, 100)}" is not a package of the index; URLs, folders and options cannot be installed`,
      );
    }
  }
}

/** Requirements and includes, with continued lines joined and comments gone. */
function readLines(text: string): string[] {
  return text
    .replaceAll(/\\\r?\n/g, ' ')
    .split(/\r?\n/)
    .map((line) => line.replace(/(?:^|\s)#.*$/, '').trim())
    .filter((line) => line !== '');
}

function refuse(path: string, why: string): SkiffError {
  return new SkiffError('INVALID_SOURCE', `${path}: ${why}`);
}
