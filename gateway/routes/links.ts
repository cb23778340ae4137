/** How a function is called from outside, and what is said of one that is not there. */
import { SkiffError } from '../../sdk/protocol/errors.ts';

export function functionUrl(publicUrl: string, name: string): string {
  return `${publicUrl}/f/${name}`;
}

export function functionNotFound(name: string): SkiffError {
  return new SkiffError('FUNCTION_NOT_FOUND', `there is no function "${name}"; GET /v1/functions lists them`);
}
