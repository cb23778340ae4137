/** Paths of the functions that tests deploy: what a user would write. */
import { join } from 'node:path';

export function functionFixture(name: string): string {
  return join(import.meta.dirname, '../fixtures/functions', name);
}
