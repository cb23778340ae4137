import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../../infra/oci/digest.ts';
import { MEDIA } from '../../../infra/oci/manifest.ts';
import { openRegistry, type Registry } from '../../../infra/oci/registry.ts';

/** A registry that answers as each test wants, over real HTTP. */
let server: Server;
let url: string;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let seen: { method: string; url: string; authorization: string | undefined; range: string | undefined }[];
let registry: Registry;

const bytes = randomBytes(1_000_000);
const digest = digestOf(bytes);

async function listen(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<[Server, string]> {
  const made = createServer(handle).listen(0, '127.0.0.1');
  await once(made, 'listening');
  return [made, `http://127.0.0.1:${(made.address() as { port: number }).port}`];
}

beforeEach(async () => {
  seen = [];
  [server, url] = await listen((request, response) => {
    const { authorization, range } = request.headers;
    seen.push({ method: request.method ?? '', url: request.url ?? '', authorization, range });
    answer(request, response);
  });
  registry = openRegistry({ url, user: 'skiff', password: 'secret' });
});
afterEach(async () => {
  await registry.close();
  server.closeAllConnections();
  server.close();
});

async function read(stream: Promise<Readable>): Promise<Buffer> {
  return Buffer.concat(await (await stream).toArray());
}

/** Sends a part of the blob from `start` and breaks the connection. */
function sendAndBreak(
  response: ServerResponse,
  status: number,
  start: number,
  end: number,
  headers = {},
): void {
  response.writeHead(status, { 'content-length': bytes.length - start, ...headers });
  response.write(bytes.subarray(start, end), () => response.destroy());
}

function startOf(request: IncomingMessage): number {
  return Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
}

describe('a pull over a link that breaks', () => {
  test('is resumed where it broke and gives the whole blob', async () => {
    answer = (request, response) => {
      const start = startOf(request);
      const headers = { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` };
      if (seen.length < 4)
        sendAndBreak(response, start > 0 ? 206 : 200, start, start + 200_000, start > 0 ? headers : {});
      else
        response
          .writeHead(206, { 'content-length': bytes.length - start, ...headers })
          .end(bytes.subarray(start));
    };
    expect((await read(registry.pullBlob('a', digest, { bytes: bytes.length }))).equals(bytes)).toBe(true);
    expect(seen.length).toBe(4);
    expect(seen[3]?.range).toMatch(/^bytes=[1-9]\d*-$/);
  });

  test('is resumed at a registry that ignores ranges', async () => {
    answer = (_, response) => {
      if (seen.length === 1) sendAndBreak(response, 200, 0, 300_000);
      else response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    };
    expect((await read(registry.pullBlob('a', digest))).equals(bytes)).toBe(true);
  });

  test('fails when the registry answers another range than asked for', async () => {
    answer = (_, response) => {
      if (seen.length === 1) return sendAndBreak(response, 200, 0, 300_000);
      response.writeHead(206, { 'content-range': `bytes 0-${bytes.length - 1}/${bytes.length}` }).end(bytes);
    };
    await expect(read(registry.pullBlob('a', digest))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  test('gives up when nothing more comes', async () => {
    answer = (request, response) => {
      const start = startOf(request);
      if (start === 0) sendAndBreak(response, 200, 0, 100_000);
      else
        sendAndBreak(response, 206, start, start, {
          'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}`,
        });
    };
    await expect(read(registry.pullBlob('a', digest))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(seen.length).toBeLessThan(20);
  });
});

describe('bytes other than the digest are refused', () => {
  const cases: Readonly<Record<string, (response: ServerResponse) => void>> = {
    'one bit flipped': (response) => {
      const flipped = Buffer.from(bytes);
      flipped[700_000] = (flipped[700_000] as number) ^ 4;
      response.writeHead(200, { 'content-length': bytes.length }).end(flipped);
    },
    'cut short without saying so': (response) => response.writeHead(200).end(bytes.subarray(0, 900_000)),
    'longer without saying so': (response) => response.writeHead(200).end(Buffer.concat([bytes, bytes])),
    endless: (response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(bytes)) continue;
        response.once('drain', more);
      };
      response.writeHead(200);
      more();
    },
    empty: (response) => response.writeHead(200).end(),
  };
  for (const [what, respond] of Object.entries(cases)) {
    test(what, async () => {
      answer = (_, response) => respond(response);
      const reading = read(registry.pullBlob('a', digest, { bytes: bytes.length }));
      await expect(reading).rejects.toMatchObject({
        code: 'INTERNAL',
        details: { reason: 'digest_mismatch' },
      });
      expect(seen.length).toBe(1);
    });
  }

  test('a manifest of another digest', async () => {
    answer = (_, response) => response.writeHead(200, { 'content-type': MEDIA.ociManifest }).end('{}');
    await expect(registry.getManifest('a', digest)).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  test('a manifest that never ends', async () => {
    answer = (_, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(bytes)) continue;
        response.once('drain', more);
      };
      response.writeHead(200, { 'content-type': MEDIA.ociManifest });
      more();
    };
    await expect(registry.getManifest('a', 'v1')).rejects.toMatchObject({ code: 'INVALID_SOURCE' });
  });
});

describe('authentication', () => {
  test('earns a Bearer token for the scope and uses it again', async () => {
    answer = (request, response) => {
      if (request.url?.startsWith('/token'))
        return response.end(JSON.stringify({ token: 't0k3n', expires_in: 300 }));
      if (request.headers.authorization === 'Bearer t0k3n')
        return response.writeHead(200, { 'content-length': 7 }).end();
      const challenge = `Bearer realm="${url}/token",service="registry.test",scope="repository:a:pull"`;
      response.writeHead(401, { 'www-authenticate': challenge }).end();
    };
    expect(await registry.headBlob('a', digest)).toBe(7);
    expect(await registry.headBlob('a', digest)).toBe(7);
    expect(seen.map((one) => one.url.split('?')[0])).toEqual([
      `/v2/a/blobs/${digest}`,
      '/token',
      `/v2/a/blobs/${digest}`,
      `/v2/a/blobs/${digest}`,
    ]);
    expect(seen[1]?.url).toBe('/token?service=registry.test&scope=repository%3Aa%3Apull');
    expect(seen[1]?.authorization).toBe(`Basic ${Buffer.from('skiff:secret').toString('base64')}`);
  });

  test('never sends the password to a plain-text token server elsewhere', async () => {
    answer = (_, response) => {
      response.writeHead(401, { 'www-authenticate': 'Bearer realm="http://elsewhere.test/token"' }).end();
    };
    await expect(registry.headBlob('a', digest)).rejects.toThrow(/not reached over https/);
  });

  test('follows a redirect of a blob without taking credentials along', async () => {
    const strangers: (string | undefined)[] = [];
    const [storage, storageUrl] = await listen((request, response) => {
      strangers.push(request.headers.authorization);
      response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    });
    answer = (request, response) => {
      if (request.headers.authorization === undefined)
        return response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
      response.writeHead(307, { location: `${storageUrl}/blob` }).end();
    };
    try {
      expect((await read(registry.pullBlob('a', digest))).equals(bytes)).toBe(true);
      expect(strangers).toEqual([undefined]);
    } finally {
      storage.closeAllConnections();
      storage.close();
    }
  });

  test('does not follow redirects in circles', async () => {
    answer = (request, response) => response.writeHead(302, { location: request.url ?? '' }).end();
    await expect(registry.headBlob('a', digest)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(seen.length).toBeLessThan(10);
  });

  test('does not upload to another host', async () => {
    answer = (request, response) => {
      if (request.method === 'HEAD') return response.writeHead(404).end();
      response.writeHead(202, { location: 'http://elsewhere.test/upload' }).end();
    };
    await expect(registry.pushBlob('a', Buffer.from('x'))).rejects.toThrow(/another host/);
  });
});

describe('a registry in trouble', () => {
  test('is asked again after 429 and 503, with a pause', async () => {
    const atMs: number[] = [];
    answer = (_, response) => {
      atMs.push(performance.now());
      if (seen.length === 1) return response.writeHead(429, { 'retry-after': '0' }).end();
      if (seen.length === 2) return response.writeHead(503).end();
      response.writeHead(200, { 'content-length': 5 }).end();
    };
    expect(await registry.headBlob('a', digest)).toBe(5);
    expect((atMs[2] as number) - (atMs[0] as number)).toBeGreaterThan(400);
  });

  test('is UNAVAILABLE when it stays in trouble, with its own words', async () => {
    answer = (_, response) => {
      const body = JSON.stringify({ errors: [{ code: 'UNAVAILABLE', message: 'disk\u001b[31m full' }] });
      response.writeHead(503, { 'content-type': 'application/json' }).end(body);
    };
    const failure = await registry.listTags('a').catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: 'UNAVAILABLE',
      details: { status: 503, registryCode: 'UNAVAILABLE' },
    });
    expect(String(failure)).toContain('disk?[31m full');
    expect(seen.length).toBe(3);
  });

  test('breaks a connection once and is asked again', async () => {
    answer = (_, response) => {
      if (seen.length === 1) response.destroy();
      else response.writeHead(200, { 'content-length': 5 }).end();
    };
    expect(await registry.headBlob('a', digest)).toBe(5);
  });

  test('an upload is not sent twice', async () => {
    answer = (request, response) => {
      if (request.method === 'HEAD') return response.writeHead(404).end();
      if (request.method === 'POST')
        return response.writeHead(202, { location: '/v2/a/blobs/uploads/1?s=x' }).end();
      if (request.method === 'DELETE') return response.writeHead(204).end();
      request.resume().on('end', () => response.writeHead(503).end());
    };
    await expect(registry.pushBlob('a', Readable.from([bytes]))).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
    expect(seen.map((one) => one.method)).toEqual(['POST', 'PATCH', 'DELETE']);
  });

  test('that stores another digest than it was given is not trusted', async () => {
    answer = (request, response) => {
      if (request.method === 'HEAD') return response.writeHead(404).end();
      if (request.method === 'POST')
        return response.writeHead(202, { location: '/v2/a/blobs/uploads/1' }).end();
      request
        .resume()
        .on('end', () => response.writeHead(201, { 'docker-content-digest': digestOf('other') }).end());
    };
    await expect(registry.pushBlob('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});
