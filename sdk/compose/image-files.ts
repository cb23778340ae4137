/**
 * Files that are put into an image: configs, and folders and files that are bound read-only. They are read when the
 * application is brought up, as the hosts that run it may be others; a change is a change of the application.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { FILES_BYTES_MAX } from '../protocol/limits.ts';
import { invalid } from './document/yaml-file.ts';
import type { Mount, Project, Service } from './model.ts';

/** Text by path in the image; undefined for none. @throws SkiffError INVALID_CONFIG */
export function readImageFiles(project: Project, service: Service): Record<string, string> | undefined {
  const files: Record<string, string> = {};
  for (const { source, target = `/${source}` } of service.configs)
    files[target] = readConfig(project, source);
  for (const mount of service.volumes)
    if (isReadOnlyBind(mount)) readBind(`services.${service.name}`, mount, files);
  return Object.keys(files).length === 0 ? undefined : files;
}

export function isReadOnlyBind({ type, readOnly, source }: Mount): boolean {
  return type === 'bind' && readOnly && source !== undefined;
}

function readConfig({ configs }: Project, name: string): string {
  const { content, file, environment, external } = configs[name] ?? {};
  if (content !== undefined) return content;
  if (environment !== undefined)
    throw invalid(`configs.${name}.environment: write content: \${${environment}} instead`);
  if (file === undefined) {
    const why = external ? 'there is no place for external ones here' : 'it has no file or content';
    throw invalid(`configs.${name}: ${why}`);
  }
  return readText(`configs.${name}.file`, file);
}

function readBind(path: string, { source = '', target }: Mount, files: Record<string, string>): void {
  const stat = statSync(source, { throwIfNoEntry: false });
  if (!stat) throw invalid(`${path}.volumes: ${source} does not exist`);
  if (!stat.isDirectory()) {
    files[target] = readText(`${path}.volumes`, source);
    return;
  }
  for (const entry of readdirSync(source, { withFileTypes: true })) {
    const inner = {
      type: 'bind',
      readOnly: true,
      source: join(source, entry.name),
      target: join(target, entry.name),
    };
    if (entry.isDirectory() || entry.isFile()) readBind(path, inner, files);
    const bytes = Object.values(files).reduce((sum, text) => sum + text.length, 0);
    if (bytes > FILES_BYTES_MAX)
      throw invalid(
        `${path}.volumes: ${source} has more than ${FILES_BYTES_MAX / 1024} KB; copy it into the image by its Containerfile`,
      );
  }
}

function readText(path: string, file: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw invalid(`${path}: ${file} cannot be read: ${(error as Error).message}`);
  }
  const text = bytes.toString('utf8');
  if (Buffer.from(text).equals(bytes)) return text;
  throw invalid(`${path}: ${file} is not UTF-8 text; copy it into the image by its Containerfile`);
}
