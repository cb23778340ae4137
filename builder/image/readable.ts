/**
 * Whose images a function may be made of, as far as the platform's own registry has them: that registry holds the images
 * of all functions, and the builder may read each. Invariant: another namespace's image is answered as one that is not
 * there. Deliberately absent: registries elsewhere, which have logins and rights of their own.
 */
import { parseExternalReference } from '../../infra/oci/external-registry.ts';
import { functionRepository } from '../../infra/contract/jobs.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { mayReach } from '../../sdk/protocol/reach/namespaces.ts';

const FUNCTIONS = functionRepository('');

/** @throws SkiffError INVALID_SOURCE */
export function assertReadable(functionName: string, image: string): void {
  const { host, repository } = parseExternalReference(image);
  if (host !== undefined || !repository.startsWith(FUNCTIONS)) return;
  if (!mayReach(functionName, repository.slice(FUNCTIONS.length)))
    throw new SkiffError('INVALID_SOURCE', `there is no image "${image}"`);
}
