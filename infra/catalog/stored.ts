/** Reading stored JSON. A value that does not fit its schema is our fault (or a foreign writer's), never the caller's. */
import type { z } from 'zod';
import { SkiffError } from '../../sdk/protocol/errors.ts';

/** @throws SkiffError INTERNAL with the key and the schema's complaint in `cause`, for the logs. */
export function parseStored<Schema extends z.ZodType>(
  schema: Schema,
  json: string,
  key: string,
): z.output<Schema> {
  try {
    return schema.parse(JSON.parse(json));
  } catch (error) {
    const cause = new Error(`the value of ${key} in Redis does not fit its schema`, { cause: error });
    throw new SkiffError('INTERNAL', 'a stored record is damaged', { cause });
  }
}
