/**
 * Secrets of an application. Invariant: a value that the server has is replaced only by a file that is newer than it;
 * values from the environment are set once. Nothing is removed: others may use a secret of the same name.
 */
import { readFileSync, statSync } from 'node:fs';
import { invalid } from '../../compose/document/yaml-file.ts';
import type { Project } from '../../compose/model.ts';
import type { CliClient } from '../connection/server.ts';
import { inNamespace } from '../options/namespace.ts';
import type { Session } from '../session.ts';

export interface SecretPlan {
  /** Name on the server. */
  readonly name: string;
  readonly action: 'create' | 'update' | 'keep';
  readonly read: () => string;
}

/** Only those that a service is given. @throws SkiffError INVALID_CONFIG when one cannot be had */
export async function planSecrets(
  client: CliClient,
  project: Project,
  session: Session,
): Promise<SecretPlan[]> {
  const used = new Set(project.services.flatMap((service) => service.secrets.map(({ source }) => source)));
  if (used.size === 0) return [];
  const known = await client.secrets.list({ signal: session.signal });
  return [...used].map((key) => {
    const { name: given = key, file, environment, external } = project.secrets[key] ?? {};
    const name = inNamespace(given, project.namespace);
    const record = known.find((one) => one.name === name);
    if (file !== undefined) {
      const changedMs = statSync(file, { throwIfNoEntry: false })?.mtimeMs;
      if (changedMs === undefined) throw invalid(`secrets.${key}.file: ${file} does not exist`);
      const isNewer = record !== undefined && changedMs > record.updatedMs;
      const action = record === undefined ? 'create' : isNewer ? 'update' : 'keep';
      return { name, action, read: () => readFileSync(file, 'utf8') };
    }
    if (record !== undefined) return { name, action: 'keep', read: () => '' };
    const value = environment === undefined ? undefined : session.env[environment];
    if (value !== undefined) return { name, action: 'create', read: () => value };
    const why =
      external === undefined || external === false
        ? `its variable ${environment ?? ''} is not set`
        : `the server has none of the name "${name}"; set it: skiff secret set ${name}`;
    throw invalid(`secrets.${key}: ${why}`);
  });
}
