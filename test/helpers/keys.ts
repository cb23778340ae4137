/** Keys as they are with one cell, for tests that look into a store. */
import { ONE_CELL } from '../../infra/contract/cells.ts';
import { fast as global } from '../../infra/contract/keys.ts';

export { durable, swarm } from '../../infra/contract/keys.ts';

export const { events } = ONE_CELL.first;
export const fast = { ...global, ...ONE_CELL.first.fast };
