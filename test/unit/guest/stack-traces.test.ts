import { expect, it } from 'vitest';
import { countShown } from '../../../sdk/guest/report/stack-traces.ts';

const AGENT = '/skiff/guest.cjs';
const NODE = 'node:internal/process/task_queues';

it.each([
  ['the function, called by the agent', ['/var/task/index.cjs', AGENT, NODE, AGENT], 1],
  [
    'a library of Node between two frames of the function',
    ['/var/task/a.cjs', NODE, '/var/task/b.cjs', AGENT],
    3,
  ],
  ['the agent, called by the function', [AGENT, '/var/task/index.cjs', AGENT], 2],
  ['the agent alone', [AGENT, NODE], 2],
  ['a file of that name that is the function\u2019s', ['/var/task/guest.cjs', AGENT], 1],
  ['code without a file', [undefined, null], 2],
])('a stack of %s is shown as far as it says something to its author', (_, names, count) => {
  expect(countShown(names)).toBe(count);
});
