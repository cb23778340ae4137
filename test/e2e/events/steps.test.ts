/** Durable steps as their users write them, and groups of events, on a whole server. */
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { describeSteps } from './describe-steps.ts';

const pythonFixture = (name: string): string => join(import.meta.dirname, '../../fixtures/runtimes', name);

describeSteps('node', 'node:26', functionFixture('steps.ts'));
describeSteps('python', 'python:3.11', pythonFixture('steps.py'));
describeSteps('python-async', 'python:3.11', pythonFixture('steps_async.py'), true);

const server = useServer();
const { client } = server;

beforeAll(async () => {
  await server.deploy('steps-callee', functionFixture('events.ts'));
});

async function result(id: string): Promise<unknown> {
  expect(await client.waitFor(id, { waitMs: 60_000 })).toMatchObject({ state: 'succeeded' });
  return JSON.parse(await (await client.result(id)).text());
}

test('a batch can have an event that runs when all others have ended, and is told how', async () => {
  const events = [
    { function: 'steps-callee', path: '/number?n=1' },
    { function: 'steps-callee', path: '/reject' },
    { function: 'steps-callee', path: '/number?n=3', delay: '300ms' },
  ];
  const { events: receipts, follower } = await client.submitGroup(events, {
    function: 'steps-callee',
    path: '/all',
  });
  expect(receipts).toHaveLength(3);
  expect(follower.state).toBe('waiting');
  const told = (await result(follower.id)) as { body: string; headers: Record<string, string> };
  expect(told.headers['content-type']).toBe('application/cloudevents-batch+json');
  const ends = JSON.parse(told.body) as {
    type: string;
    subject: string;
    data: { result?: { body: unknown } };
  }[];
  expect(ends.map(({ type }) => type)).toEqual([
    'skiff.invocation.succeeded',
    'skiff.invocation.dead',
    'skiff.invocation.succeeded',
  ]);
  expect(ends.map(({ subject }) => subject)).toEqual(receipts.map((each) => 'id' in each && each.id));
  expect(ends[2]?.data.result?.body).toMatchObject({ n: 3 });
  const wrong = client.submitGroup([{ function: 'steps-nobody' }], { function: 'steps-callee' });
  await expect(wrong).rejects.toThrow(/steps-nobody/);
});
