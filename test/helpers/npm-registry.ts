/** A small npm registry on a loopback port: packages are what a test says, tarballs and digests are real. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { packLayer } from '../../infra/oci/layer-pack.ts';

export interface TestPackage {
  readonly name: string;
  readonly version: string;
  readonly manifest?: Readonly<Record<string, unknown>>;
  readonly files: Readonly<Record<string, string>>;
}

export interface TestNpmRegistry {
  readonly url: string;
  /** `METHOD path`, in order. */
  readonly requests: string[];
  /** Subresource integrity of a package's tarball; of its latest version when none is named. */
  integrity(name: string, version?: string): string;
  /** What a lock file says of a package, with another host than the one it is asked at. */
  lockEntry(name: string): object;
  /** From now on every request is answered with this status; undefined ends that. */
  failWith(status: number | undefined): void;
  /** Serves other bytes than the digest says. */
  damage(name: string): void;
  close(): Promise<void>;
}

interface Published extends TestPackage {
  readonly tarball: Buffer;
  readonly integrity: string;
}

export async function startNpmRegistry(packages: readonly TestPackage[]): Promise<TestNpmRegistry> {
  const published = new Map<string, Published>();
  const older: Published[] = [];
  for (const each of packages) {
    // Of several versions of a name the first is the latest.
    const one = await publish(each);
    if (published.has(each.name)) older.push(one);
    else published.set(each.name, one);
  }
  const versionsOf = (latest: Published): Published[] => [
    latest,
    ...older.filter(({ name }) => name === latest.name),
  ];
  const requests: string[] = [];
  const damaged = new Set<string>();
  let failure: number | undefined;
  const server = createServer((incoming, outgoing) => {
    const path = decodeURIComponent(incoming.url ?? '/');
    requests.push(`${incoming.method} ${path}`);
    const [name = '', file] = path.slice(1).split('/-/');
    const found = published.get(name);
    if (failure !== undefined) outgoing.writeHead(failure).end();
    else if (!found)
      outgoing.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}');
    else if (file !== undefined)
      outgoing
        .writeHead(200)
        .end(
          damaged.has(name)
            ? Buffer.concat([found.tarball, Buffer.from('x')])
            : tarballOf(file, versionsOf(found)),
        );
    else
      outgoing
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify(describe(versionsOf(found))));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    requests,
    integrity(name, version) {
      const latest = published.get(name) as Published;
      return (versionsOf(latest).find((one) => one.version === version) ?? latest).integrity;
    },
    lockEntry(name) {
      const { version, integrity, manifest } = published.get(name) as Published;
      const dependencies = manifest?.['dependencies'];
      return {
        version,
        resolved: tarballUrl(name, version),
        integrity,
        ...(dependencies ? { dependencies } : {}),
      };
    },
    failWith(status) {
      failure = status;
    },
    damage: (name) => damaged.add(name),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function publish(each: TestPackage): Promise<Published> {
  const manifest = JSON.stringify({ name: each.name, version: each.version, ...each.manifest });
  const files = { 'package.json': manifest, ...each.files };
  const { data } = await packLayer(
    Object.entries(files).map(([path, text]) => ({ path: `package/${path}`, data: text })),
  );
  return {
    ...each,
    tarball: data,
    integrity: `sha512-${createHash('sha512').update(data).digest('base64')}`,
  };
}

/** Registries name their own public address, not the one they were asked at. */
function tarballUrl(name: string, version: string): string {
  return `https://registry.example/${name}/-/${name.split('/').at(-1)}-${version}.tgz`;
}

function tarballOf(file: string, versions: readonly Published[]): Buffer {
  return (versions.find(({ name, version }) => tarballUrl(name, version).endsWith(`/${file}`)) ?? versions[0])
    ?.tarball as Buffer;
}

function describe(versions: readonly Published[]): object {
  const latest = versions[0] as Published;
  return {
    name: latest.name,
    'dist-tags': { latest: latest.version },
    versions: Object.fromEntries(
      versions.map(({ name, version, manifest, integrity }) => [
        version,
        { name, version, ...manifest, dist: { tarball: tarballUrl(name, version), integrity } },
      ]),
    ),
  };
}
