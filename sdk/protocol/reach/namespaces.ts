/**
 * Namespaces: `team.resize` is the function "resize" of the namespace "team". The namespace is a part of the name, so
 * it can be neither changed nor forgotten, and whoever knows a name knows whose it is. Secrets and schedules are named
 * the same way. Names without a namespace belong to the operator, who may reach all others.
 *
 * Invariant: what a function of a namespace names (functions it calls or tells, secrets) is of that namespace alone.
 */
import { SkiffError } from '../errors.ts';
import { type FunctionConfig, parseCallTarget } from '../manifest.ts';

/** Undefined for a name without one. */
export function namespaceOf(name: string): string | undefined {
  const at = name.indexOf('.');
  return at === -1 ? undefined : name.slice(0, at);
}

/** What `said` means where a function called `by` says it: a bare name is one of its own namespace. */
export function resolveName(said: string, by: string): string {
  const namespace = namespaceOf(by);
  return namespace === undefined || said.includes('.') ? said : `${namespace}.${said}`;
}

/** May what is called `by` make use of `target`? Both are whole names. */
export function mayReach(by: string, target: string): boolean {
  const namespace = namespaceOf(by);
  return namespace === undefined || namespaceOf(target) === namespace;
}

/** @throws SkiffError INVALID_CONFIG when a configuration names what is outside of its function's namespace. */
export function assertOwnNamespace(functionName: string, config: FunctionConfig): FunctionConfig {
  const { onSuccess, onFailure } = config.async;
  const destinations = [onSuccess, onFailure].flatMap((one) => {
    if (one && 'function' in one) return [one.function];
    return one && 'queue' in one ? [one.queue] : [];
  });
  const named = [...config.calls.map((text) => parseCallTarget(text).name), ...destinations];
  const foreign = named.find((name) => !mayReach(functionName, resolveName(name, functionName)));
  if (foreign === undefined) return config;
  throw new SkiffError(
    'INVALID_CONFIG',
    `"${functionName}" cannot use "${foreign}": functions of the namespace "${namespaceOf(functionName)}" reach each other and nobody else`,
  );
}
