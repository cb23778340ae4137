import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { useServer } from '../../helpers/shared-server.ts';
import { describeRuntime } from './conformance.ts';

const fixture = (name: string): string => join(import.meta.dirname, '../../fixtures/runtimes', name);

describeRuntime('python:3.11', fixture('behaviour.py'));

describe('Python applications', () => {
  const server = useServer();
  let asgi: string;
  let wsgi: string;

  beforeAll(async () => {
    [asgi, wsgi] = await Promise.all([
      server.deploy('python-asgi', fixture('asgi')),
      server.deploy('python-wsgi', fixture('wsgi')),
    ]);
  });

  it('an ASGI application is served, after its start-up', async () => {
    const response = await fetch(`${asgi}/a%20b?x=1`, { method: 'POST', body: Buffer.alloc(300_000) });
    expect([response.status, response.headers.get('x-kind')]).toEqual([201, 'asgi']);
    expect(await response.text()).toBe('POST /a b x=1 300000 True!');
  });

  it('a WSGI application is served', async () => {
    const response = await fetch(`${wsgi}/a%20b?x=1`, {
      method: 'PUT',
      body: Buffer.alloc(300_000),
      headers: { 'x-custom': 'kept' },
    });
    expect([response.status, response.headers.get('x-kind')]).toEqual([202, 'wsgi']);
    expect(await response.text()).toBe('PUT /a b x=1 300000 kept');
  });

  it('the language decides the runtime when nobody names one', async () => {
    expect((await server.client.get('python-asgi')).runtime).toBe('python:3.11');
  });
});
