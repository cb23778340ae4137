/** Functions of JSON in real sandboxes, deployed for the test by skiff/testing and called with inferred types. */
import { expect, test } from 'vitest';
import { ClientError, deployTestFunction } from '../../../sdk/testing/index.ts';
import type countdown from '../../fixtures/functions/countdown.ts';
import type sums from '../../fixtures/functions/sums.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const { url, token, client } = useServer();

test('a function is deployed for a test, called with its types, read of and removed', async () => {
  let name: string;
  {
    await using fn = await deployTestFunction<typeof sums>({
      url,
      token,
      source: functionFixture('sums.ts'),
    });
    name = fn.name;
    const { sum, by, at } = await fn.invoke({ numbers: [1, 2, 3] });
    expect([sum, by, Number.isNaN(Date.parse(at))]).toEqual([6, name, false]);
    expect((await client.get(name)).labels).toMatchObject({ team: 'sums', 'skiff.test': 'true' });
    const refused = await fn.invoke({ numbers: 1 as never }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ClientError);
    expect(refused).toMatchObject({ code: 'BAD_REQUEST', detail: 'numbers: must be a list' });
    await waitFor('the log', async () => (await fn.logs()).some(({ message }) => message === 'summing 3'));
    expect((await fn.fetch('/', { method: 'POST', json: { numbers: [4] } })).status).toBe(200);
  }
  await expect(client.get(name)).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
});

test('what it yields arrives as it is yielded, and leaving ends it', async () => {
  await using fn = await deployTestFunction<typeof countdown>({
    url,
    token,
    source: functionFixture('countdown.ts'),
  });
  const items: { n: number; at: number }[] = [];
  for await (const item of client.stream<typeof countdown>(fn.name, { from: 3 })) items.push(item);
  expect(items.map(({ n }) => n)).toEqual([3, 2, 1, 0]);
  for await (const { n } of client.stream<typeof countdown>(fn.name, { from: 100_000 })) {
    if (n < 99_999) break;
  }
  const ends = async (): Promise<number> =>
    (await fn.logs()).filter(({ message }) => message === 'ended').length;
  await waitFor('both to have ended', async () => (await ends()) === 2);
});

test('a call with a key runs once', async () => {
  await using fn = await deployTestFunction<typeof sums>({ url, token, source: functionFixture('sums.ts') });
  const call = () => client.invoke<typeof sums>(fn.name, { numbers: [1] }, { idempotencyKey: 'the-key' });
  const [first, second] = [await call(), await call()];
  expect(second).toEqual(first);
});

test('a source that does not build leaves nothing behind', async () => {
  const source = functionFixture('nasty.ts');
  const before = (await client.list()).length;
  await expect(deployTestFunction({ url, token, source, entry: 'absent.ts' })).rejects.toBeInstanceOf(
    ClientError,
  );
  expect((await client.list()).length).toBe(before);
});
