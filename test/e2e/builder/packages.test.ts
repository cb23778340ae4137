/** Functions with packages of the registry this host is set up for, on a whole server. */
import { describe, expect, it } from 'vitest';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';

describe('functions with real packages', () => {
  const server = useServer();

  it('a compiled addon from a prebuilt package runs, and an asset is where the code looks', async () => {
    const url = await server.deploy('native-crc', functionFixture('native-crc'));
    const response = await fetch(url);
    // The check value of CRC-32/ISO-HDLC.
    expect(await response.json()).toEqual({ crc: 0xcbf43926, bytes: 9 });
  });

  it('a page rendered by React with zod is bundled and answers', async () => {
    const url = await server.deploy('react-page', functionFixture('react-page'));
    expect(await (await fetch(`${url}?name=Ada`)).text()).toBe('<main><h1>Hello, <!-- -->Ada</h1></main>');
    expect((await fetch(`${url}?name=`)).status).toBe(400);
  });

  it('a Hono app answers', async () => {
    const url = await server.deploy('hono-packages', functionFixture('hono-app'));
    expect(await (await fetch(`${url}/hello/Ada`)).json()).toEqual({ hello: 'Ada' });
  });
});
