/**
 * The files of infra/deploy, each read by the tool it is for, as far as this machine has it: the Compose specification's
 * schema, `docker stack config`, `systemd-analyze verify`, the Kubernetes API's types, a linter of Dockerfiles. And what
 * no such tool can know: that their settings exist and that what they name is there.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { validate as lintDockerfile } from 'dockerfile-utils';
import * as apps from 'kubernetes-models/apps/v1';
import * as networking from 'kubernetes-models/networking.k8s.io/v1';
import * as core from 'kubernetes-models/v1';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { KNOWN_SETTINGS } from '../../../infra/lib/config.ts';
import { ROOT } from '../../helpers/source-tree.ts';

const FOLDER = join(ROOT, 'infra/deploy');
const read = (name: string) => readFileSync(join(FOLDER, name), 'utf8');
const parseYaml = (name: string): unknown => parse(read(name), { merge: true });

function has(program: string, ...args: string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

it('uses only settings that exist', () => {
  const files = readdirSync(FOLDER).filter((name) =>
    /^(?:.*\.ya?ml|.*\.service|Containerfile|README\.md)$/.test(name),
  );
  const used = files.flatMap((name) =>
    [...read(name).matchAll(/\bSKIFF_(?!NAME\b)[A-Z_]*[A-Z]/g)].map(([setting]) => ({ name, setting })),
  );
  const unknown = used.filter(({ setting }) => !KNOWN_SETTINGS.has(setting.replace(/_FILE$/, '')));
  expect(used.length).toBeGreaterThan(20);
  expect(unknown).toEqual([]);
});

describe('compose files', () => {
  const schema = JSON.parse(
    readFileSync(join(ROOT, 'sdk/compose/schema/compose-spec.json'), 'utf8'),
  ) as object;
  const check = new Ajv2020({ strict: false, validateFormats: false }).compile(schema);

  it.each(['compose.yaml', 'stack.yaml', 'stack-runners.yaml'])(
    '%s is one of the Compose specification',
    (name) => {
      check(parseYaml(name));
      expect(check.errors ?? []).toEqual([]);
    },
  );

  it('compose.yaml names networks, volumes and services that it has', () => {
    const file = parseYaml('compose.yaml') as {
      services: Record<
        string,
        { networks: string[]; volumes?: string[]; depends_on?: object; environment?: object }
      >;
      networks: object;
      volumes: object;
    };
    for (const service of Object.values(file.services)) {
      for (const network of service.networks) expect(Object.keys(file.networks)).toContain(network);
      for (const volume of service.volumes ?? [])
        expect(Object.keys(file.volumes)).toContain(volume.split(':')[0]);
      for (const other of Object.keys(service.depends_on ?? {})) expect(file.services).toHaveProperty(other);
    }
    const urls = Object.values(file.services['skiff']?.environment ?? {}).filter((value) =>
      /:\/\//.test(value),
    );
    expect(urls.length).toBe(3);
    for (const url of urls) expect(file.services).toHaveProperty(new URL(url).hostname);
  });

  it.skipIf(!has('docker', 'stack', 'config', '--help'))('the stack is taken by docker', () => {
    const files = ['-c', join(FOLDER, 'stack.yaml'), '-c', join(FOLDER, 'stack-runners.yaml')];
    const env = { ...process.env, IMAGE: 'x/skiff:1', MANAGER: '10.0.0.1:7377' };
    const text = execFileSync('docker', ['stack', 'config', ...files], { env, encoding: 'utf8' });
    const { services } = parse(text) as {
      services: Record<
        string,
        { command: string[]; deploy: { mode?: string }; environment: Record<string, string> }
      >;
    };
    expect(services['runner']?.deploy.mode).toBe('global');
    expect(services['runner']?.environment).toEqual({ IMAGE: 'x/skiff:1', MANAGER: '10.0.0.1:7377' });
    for (const { command } of Object.values(services)) {
      expect(command[2]).toMatch(/exec docker run --rm .*--privileged --cgroupns host --network host/);
      // The shell of the launcher is to read these, not Compose.
      expect(command[2]).toContain('"$IMAGE" server');
      execFileSync('sh', ['-n', '-c', command[2] as string]);
    }
    expect(services['runner']?.command[2]).not.toMatch(/SKIFF_JOIN_TOKEN=/);
  });
});

describe('systemd units', () => {
  it.skipIf(!has('systemd-analyze', '--version'))('are ones that systemd takes', () => {
    const folder = mkdtempSync(join(tmpdir(), 'skiff-units-'));
    try {
      for (const name of ['skiff.service', 'skiff@.service']) {
        // Where a host has it, this machine need not.
        writeFileSync(join(folder, name), read(name).replaceAll('/opt/skiff', ROOT));
      }
      cpSync(join(folder, 'skiff@.service'), join(folder, 'skiff@runner.service'));
      const units = ['skiff.service', 'skiff@runner.service'].map((name) => join(folder, name));
      const text = execFileSync('systemd-analyze', ['verify', '--man=no', ...units], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      expect(text).toBe('');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('stop no earlier than their server has stopped its processes one after the other', () => {
    for (const name of ['skiff.service', 'skiff@.service'])
      expect(read(name)).toMatch(/^TimeoutStopSec=120$/m);
  });
});

describe('kubernetes.yaml', () => {
  interface Manifest {
    apiVersion: string;
    kind: string;
    metadata: { name: string; namespace?: string };
    spec: Spec;
  }
  /** What is looked at of any of them. */
  interface Spec {
    selector: { matchLabels: Record<string, string> };
    template: { metadata: { labels: Record<string, string> }; spec: Pod };
  }
  interface Pod {
    serviceAccountName: string;
    containers: {
      ports: { containerPort: unknown }[];
      env: { name: string; value: string }[];
      volumeMounts: { name: string }[];
    }[];
    volumes: { name: string }[];
  }
  const manifests = parseAllDocuments(read('kubernetes.yaml')).map((one) => one.toJS() as Manifest);
  const named = (kind: string, name: string) =>
    manifests.find((one) => one.kind === kind && one.metadata.name === name);
  const workloads = manifests.filter(({ kind }) => ['DaemonSet', 'StatefulSet'].includes(kind));
  const models: Record<string, Record<string, unknown>> = {
    v1: core,
    'apps/v1': apps,
    'networking.k8s.io/v1': networking,
  };

  it.each(manifests)('$kind $metadata.name has the fields of its type and no others', (manifest) => {
    const Model = models[manifest.apiVersion]?.[manifest.kind] as new (data: object) => { validate(): void };
    expect(() => new Model(manifest).validate()).not.toThrow();
  });

  it('refuses a field that its type does not have', () => {
    const wrong = structuredClone(workloads[0]) as Manifest;
    for (const port of wrong.spec.template.spec.containers[0]?.ports ?? []) port.containerPort = 'http';
    const Model = models[wrong.apiVersion]?.[wrong.kind] as new (data: object) => { validate(): void };
    expect(() => new Model(wrong).validate()).toThrow();
  });

  it('has all in one namespace, and what its parts name is there', () => {
    const outside = manifests.filter(
      ({ kind, metadata }) => kind !== 'Namespace' && metadata.namespace !== 'skiff',
    );
    expect(outside).toEqual([]);
    expect(workloads.map(({ kind }) => kind).toSorted()).toEqual(['DaemonSet', 'StatefulSet']);
    for (const { spec } of workloads) {
      expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
      const pod = spec.template.spec;
      expect(named('ServiceAccount', pod.serviceAccountName)).toBeDefined();
      for (const container of pod.containers) {
        for (const { name } of container.volumeMounts)
          expect(pod.volumes.map((volume) => volume.name)).toContain(name);
      }
    }
    const labels = workloads.map(({ spec }) => spec.template.metadata.labels);
    for (const { spec } of manifests.filter(({ kind }) => kind === 'Service'))
      expect(labels).toContainEqual(expect.objectContaining(spec.selector));
    const runner = workloads.find(({ kind }) => kind === 'DaemonSet')?.spec.template.spec.containers[0];
    const manager = runner?.env.find(({ name }) => name === 'SKIFF_JOIN_MANAGER')?.value ?? '';
    const [service, namespace] = manager.split('.');
    expect(named('Service', service as string)?.metadata.namespace).toBe(namespace);
  });
});

describe('the Containerfile', () => {
  const text = read('Containerfile');

  it('is one that docker can read', () => {
    expect(lintDockerfile(text)).toEqual([]);
  });

  it('takes every folder that the server needs, and nothing that is not there', () => {
    const sources = [...text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) =>
      (match[1] as string).split(' '),
    );
    expect(sources).toEqual(expect.arrayContaining(['sdk', 'infra', 'gateway', 'builder', 'runner']));
    for (const source of sources) expect(existsSync(join(ROOT, source)), source).toBe(true);
    const kept = read('Containerfile.dockerignore').split('\n');
    for (const source of sources) expect(kept).toContain(`!${source.replace('./', '')}`);
  });

  it('installs every Debian package that a host needs', () => {
    const setup = readFileSync(join(ROOT, 'infra/setup/ensure.sh'), 'utf8');
    const list = /SERVER_PACKAGES=\(\n([^)]*)\)/.exec(setup)?.[1] ?? '';
    const packages = list
      .trim()
      .split(/\s+/)
      .map((pair) => pair.split(':').at(-1) as string);
    expect(packages.length).toBeGreaterThan(4);
    for (const name of packages) expect(text).toMatch(new RegExp(`[ \\n]${name}[ \\n]`));
  });
});
