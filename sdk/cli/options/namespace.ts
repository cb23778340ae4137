/** `--namespace`: names as they are stored, `<namespace>.<name>`. */
import { namespaceOf } from '../../protocol/reach/namespaces.ts';
import { usage } from '../failure.ts';

/** Throws a usage error when the name has another namespace already. */
export function inNamespace(name: string, namespace: string | undefined): string {
  const own = namespaceOf(name);
  if (namespace === undefined || own === namespace) return name;
  if (own !== undefined)
    throw usage(`"${name}" is of the namespace "${own}", not "${namespace}"`, 'give one of the two');
  return `${namespace}.${name}`;
}
