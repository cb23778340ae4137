/** What the schemas of this folder are made of: the Compose Specification's recurring kinds of values. */
import { z } from 'zod';

/** A mapping with these keys and extensions (`x-…`) and no others. */
export function mapping<Shape extends z.ZodRawShape>(shape: Shape) {
  return z.looseObject(shape).superRefine((value, context) => {
    for (const key of Object.keys(value)) {
      if (Object.hasOwn(shape, key) || key.startsWith('x-')) continue;
      const near = Object.keys(shape).find((known) => isNear(known, key));
      const hint = near === undefined ? '' : `; did you mean ${near}?`;
      context.addIssue({
        code: 'custom',
        path: [key],
        message: `is not a key of the Compose Specification${hint}`,
      });
    }
  });
}

/** One letter more, less, exchanged, or two swapped. */
function isNear(known: string, given: string): boolean {
  if (Math.abs(known.length - given.length) > 1) return false;
  let i = 0;
  while (i < known.length && known[i] === given[i]) i++;
  let end = 0;
  while (end < Math.min(known.length, given.length) - i && known.at(-1 - end) === given.at(-1 - end)) end++;
  const left = known.length - i - end;
  const right = given.length - i - end;
  return (
    (left <= 1 && right <= 1) ||
    (left === 2 && right === 2 && known[i] === given[i + 1] && known[i + 1] === given[i])
  );
}

export const text = z.string();
/** Interpolated values are texts, whatever they stand for. */
export const flag = z.union([z.boolean(), z.enum(['true', 'false'])], 'must be true or false');
export const number = z.union([z.number(), z.string().regex(/^-?\d+(?:\.\d+)?$/)], 'must be a number');
export const whole = z.union([z.int(), z.string().regex(/^-?\d+$/)], 'must be a whole number');
export const size = z.union([z.number(), z.string()], 'must be a size such as 64m');
export const duration = z
  .string('must be a duration such as 30s')
  .regex(/^(?:\d+(?:\.\d+)?(?:us|ms|s|m|h|d|w))+$|^0$/, 'must be a duration such as 1m30s');
export const scalar = z.union(
  [z.string(), z.number(), z.boolean(), z.null()],
  'must be a text, number or boolean',
);
export const textList = z.array(z.union([z.string(), z.number()]), 'must be a list of texts');
export const textOrList = z.union([z.string(), textList], 'must be a text or a list of texts');
/** `{ A: x }` or `- A=x`. */
export const assignments = z.union(
  [z.record(z.string(), scalar), z.array(z.string())],
  'must be a mapping of names to values, or a list of name=value',
);
export const anything = z.unknown();
