/** A small Python package index on a loopback port (PEP 503 or 691): wheels are what a test says, digests are real. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { crc32 } from 'node:zlib';

export interface TestWheel {
  readonly name: string;
  readonly version: string;
  readonly requires?: readonly string[];
  readonly files: Readonly<Record<string, string>>;
}

export interface TestPipIndex {
  readonly url: string;
  /** `METHOD path`, in order. */
  readonly requests: string[];
  /** Serves other bytes than the digest says. */
  damage(name: string): void;
  failWith(status: number | undefined): void;
  close(): Promise<void>;
}

export async function startPipIndex(
  wheels: readonly TestWheel[],
  format: 'html' | 'json' = 'json',
): Promise<TestPipIndex> {
  const requests: string[] = [];
  const damaged = new Set<string>();
  let failure: number | undefined;
  const files = wheels.map((wheel) => {
    const bytes = packWheel(wheel);
    const filename = `${wheel.name}-${wheel.version}-py3-none-any.whl`;
    return { ...wheel, filename, bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
  });
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    const path = request.url ?? '/';
    const found = files.filter(({ name }) => path === `/simple/${name.replaceAll('_', '-')}/`);
    const file = files.find(({ filename }) => path === `/far/away/${filename}`);
    if (failure !== undefined) response.writeHead(failure).end();
    else if (file) {
      const bytes = Buffer.from(file.bytes);
      if (damaged.has(file.name)) bytes[100] = (bytes[100] as number) ^ 1;
      response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    } else if (found.length === 0) response.writeHead(404).end();
    else if (format === 'html') {
      const links = found.map(
        (one) => `<a href="/far/away/${one.filename}#sha256=${one.sha256}">${one.filename}</a>`,
      );
      response.writeHead(200, { 'content-type': 'text/html' }).end(links.join('\n'));
    } else {
      response.writeHead(200, { 'content-type': 'application/vnd.pypi.simple.v1+json' }).end(
        JSON.stringify({
          meta: { 'api-version': '1.0' },
          name: found[0]?.name,
          files: found.map(({ filename, sha256 }) => ({
            filename,
            url: `../../far/away/${filename}`,
            hashes: { sha256 },
            'core-metadata': { sha256: '00' },
          })),
        }),
      );
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple/`,
    requests,
    damage: (name) => void damaged.add(name),
    failWith: (status) => (failure = status),
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function packWheel({ name, version, requires = [], files }: TestWheel): Buffer {
  const info = `${name}-${version}.dist-info`;
  const metadata = ['Metadata-Version: 2.1', `Name: ${name}`, `Version: ${version}`];
  const all: Record<string, string> = {
    ...files,
    [`${info}/METADATA`]: `${[...metadata, ...requires.map((one) => `Requires-Dist: ${one}`)].join('\n')}\n`,
    [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
  };
  const record = [...Object.keys(all), `${info}/RECORD`].map((path) => `${path},,`);
  all[`${info}/RECORD`] = `${record.join('\n')}\n`;
  return packZip(all);
}

/** Stored, not compressed. */
function packZip(files: Readonly<Record<string, string>>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [path, text] of Object.entries(files)) {
    const name = Buffer.from(path);
    const data = Buffer.from(text);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt32LE(crc32(data), 10);
    fields.writeUInt32LE(data.length, 14);
    fields.writeUInt32LE(data.length, 18);
    fields.writeUInt16LE(name.length, 22);
    parts.push(Buffer.from('PK\x03\x04', 'latin1'), fields, name, data);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE((0o100644 << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\x03', 'latin1'), fields, tail, name);
    offset += 30 + name.length + data.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 0, 'latin1');
  end.writeUInt16LE(Object.keys(files).length, 8);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, list, end]);
}
