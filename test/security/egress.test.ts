import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { createClient, type LogLine } from '../../sdk/client/index.ts';
import type { FunctionConfigInput } from '../../sdk/protocol/manifest.ts';
import { createSourceFolder } from '../helpers/source-folder.ts';
import { waitFor } from '../helpers/wait.ts';
import { openWorld, type World } from '../helpers/world.ts';
import { openBench, type Bench, type Probe, type Tools } from './probe.ts';

const GOOD = '192.31.196.10';
const OTHER = '192.31.196.20';

/** Resolves to what came back, or the error's code. */
async function request({ load }: Tools, url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return await new Promise((resolve) => {
    const socket = load('net').connect({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) });
    let text = '';
    socket.setTimeout(3_000, () => (socket.destroy(), resolve('no answer')));
    socket.once('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? 'failed'));
    socket.once('connect', () =>
      socket.write(`GET / HTTP/1.1\r\nhost: ${hostname}\r\nconnection: close\r\n\r\n`),
    );
    socket.on('data', (chunk) => (text += String(chunk)));
    socket.once('close', () => resolve(text.split('\r\n\r\n')[1] ?? 'nothing'));
  });
}

async function addressOf({ load }: Tools): Promise<string> {
  return load('os').networkInterfaces()['eth0']?.[0]?.address ?? 'none';
}

async function look({ load }: Tools, name: string): Promise<string[] | string> {
  return load('dns/promises')
    .resolve4(name)
    .catch((error: NodeJS.ErrnoException) => error.code ?? 'failed');
}

const REFUSED = /^(?:EHOSTUNREACH|ECONNREFUSED|ENETUNREACH|EACCES|EPERM|EADDRNOTAVAIL|EINVAL)$/;

describe('egress', () => {
  let world: World;
  let bench: Bench;
  let open: Probe;
  let listed: Probe;
  let host: Server;
  let before: Record<string, string>;

  const knobs = (): Record<string, string> => {
    const folder = '/proc/sys/net/ipv4/conf';
    const devices = readdirSync(folder).filter((name) => !name.startsWith('sk') && !name.startsWith('world'));
    const files = [...devices.map((name) => `${folder}/${name}/forwarding`), '/proc/sys/net/ipv4/ip_forward'];
    return Object.fromEntries(files.map((file) => [file, readFileSync(file, 'utf8')]));
  };

  beforeAll(async () => {
    before = knobs();
    world = await openWorld();
    bench = await openBench('crun', {
      SKIFF_EGRESS_DNS: world.resolver,
      SKIFF_EGRESS_DEVICES: world.device,
      SKIFF_EGRESS_INTERNAL: '172.20.9.9',
      SKIFF_RUNTIME_CLASSES: 'runc=runc,gvisor=runsc',
    });
    [open, listed] = await Promise.all([
      bench.deploy('open', { network: 'internet' }),
      bench.deploy('listed', {
        network: {
          allow: ['good.example.test:80', '*.other.example.test:443', '192.31.196.20:8443', '172.20.9.9:80'],
        },
      }),
    ]);
    host = createServer((socket) => socket.end('HTTP/1.1 200 OK\r\n\r\nthe host')).listen(0, '0.0.0.0');
    await once(host, 'listening');
  });

  afterAll(async () => {
    host?.close();
    try {
      // Fails when a namespace, a link or a table is left.
      await bench?.server.stop();
      expect(knobs()).toEqual(before);
    } finally {
      await world?.close();
    }
  });

  async function deniedLines(name: string): Promise<LogLine[]> {
    const client = createClient({ url: bench.server.url, token: bench.server.adminToken });
    const lines: LogLine[] = [];
    for await (const line of client.logs(name, { tail: 1000 })) if (line.fields?.['egress']) lines.push(line);
    return lines;
  }

  describe('the whole internet', () => {
    it('reaches public addresses and names, and is seen with the host\u2019s address', async () => {
      expect(await open.run(request, `http://${GOOD}/`)).toBe(`${world.hostAddress} ${GOOD}`);
      expect(await open.run(request, 'http://good.example.test/')).toBe(
        `${world.hostAddress} good.example.test`,
      );
    });

    it('D2: datagrams pass as well', async () => {
      const echo = await open.run(
        ({ load }, address) =>
          new Promise<string>((resolve) => {
            const socket = load('dgram').createSocket('udp4');
            setTimeout(() => resolve('no answer'), 3_000);
            socket.on('message', (message) => (socket.close(), resolve(String(message))));
            socket.send('hello', 9999, address);
          }),
        GOOD,
      );
      expect(echo).toBe('hello');
    });

    it.each(['10.9.9.9', '172.20.9.9', '192.168.99.9', '100.64.9.9', '169.254.169.254'])(
      'D2: the internal address %s is refused, though there is a way to it',
      async (address) => {
        expect(await open.run(request, `http://${address}/`)).toMatch(REFUSED);
      },
    );

    it.each([
      '[::ffff:169.254.169.254]',
      '[::ffff:10.9.9.9]',
      '[64:ff9b::a09:909]',
      '[fd00::1]',
      '[fe80::1]',
      '[2001:db8::1]',
      '0x0a.0x09.0x09.0x09',
      '167774473',
      '0.0.0.0',
      '224.0.0.1',
      '255.255.255.255',
    ])('D2: %s is refused', async (address) => {
      const result = await open.run(
        ({ load }, to) =>
          new Promise<string>((resolve) => {
            const socket = load('net').connect({ host: to.replace(/^\[|\]$/g, ''), port: 80 });
            socket.setTimeout(3_000, () => (socket.destroy(), resolve('no answer')));
            socket.once('connect', () => resolve('connected'));
            socket.once('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? 'failed'));
          }),
        address,
      );
      expect(result).not.toBe('connected');
      expect(result).not.toBe('no answer');
    });

    it('D1: no address of this host is reached', async () => {
      const { port } = host.address() as AddressInfo;
      const addresses = Object.values(networkInterfaces()).flatMap((list) =>
        (list ?? []).filter(({ family }) => family === 'IPv4').map((one) => one.address),
      );
      expect(addresses).toContain(world.hostAddress);
      for (const address of addresses)
        expect(await open.run(request, `http://${address}:${port}/`), address).toMatch(REFUSED);
    });

    it('D1: gateway, registry and the resolver\u2019s other ports are not reached', async () => {
      const gateway = await open.run(
        ({ load }) => /nameserver (\S+)/.exec(load('fs').readFileSync('/etc/resolv.conf', 'utf8'))?.[1] ?? '',
      );
      expect(gateway).toMatch(/^198\.18\./);
      const { state } = bench.server;
      for (const port of [new URL(state.url).port, new URL(state.registryUrl).port, '22', '80', '6379']) {
        expect(await open.run(request, `http://${gateway}:${port}/`)).toMatch(REFUSED);
      }
    });

    it('D3: other sandboxes are not reached, and neither is it from them or the host', async () => {
      const target = await listed.run(async ({ load }) => {
        load('net')
          .createServer((socket) => socket.end('neighbour'))
          .unref()
          .listen(7000, '0.0.0.0');
        return load('os').networkInterfaces()['eth0']?.[0]?.address ?? '';
      });
      expect(target).toMatch(/^198\.18\./);
      expect(await open.run(addressOf)).not.toBe(target);
      expect(await open.run(request, `http://${target}:7000/`)).toMatch(REFUSED);
    });

    it('D3: it has no IPv6 address and cannot take another IPv4 one', async () => {
      const { families, packet, bind } = await open.run(({ load, syscall }) => {
        const eth0 = load('os').networkInterfaces()['eth0'] ?? [];
        const fd = syscall(41, 2, 2, 0);
        const sockaddr = Uint8Array.of(2, 0, 0, 80, 10, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0);
        const result = syscall(49, fd, sockaddr, 16);
        syscall(3, fd);
        return {
          families: eth0.map(({ family }) => family),
          packet: syscall(41, 17, 3, 0x0300),
          bind: result,
        };
      });
      expect(families).toEqual(['IPv4']);
      expect(packet).toBe(-1);
      expect(bind).toBeLessThan(0);
    });

    it('D4: names that point inside point nowhere; of mixed answers the public ones are left', async () => {
      for (const name of ['inside', 'metadata', 'loopback']) {
        expect(await open.run(look, `${name}.example.test`)).toBe('ENODATA');
      }
      expect(await open.run(look, 'mixed.example.test')).toEqual([GOOD]);
    });

    it('D4: an answer that flips from public to internal between two queries does not pass', async () => {
      const results = [await open.run(look, 'flip.example.test'), await open.run(look, 'flip.example.test')];
      expect(results).toEqual([[GOOD], 'ENODATA']);
    });
  });

  describe('an allow list', () => {
    it('reaches what it names, by name and by range', async () => {
      expect(await listed.run(request, 'http://good.example.test/')).toContain('good.example.test');
      expect(await listed.run(request, `http://${OTHER}:8443/`)).toContain(OTHER);
      expect(await listed.run(request, 'http://api.other.example.test:443/')).toContain('api.other');
    });

    it('D2: other ports, other names and the name above a wildcard are refused', async () => {
      expect(await listed.run(request, 'http://good.example.test:8443/')).toMatch(REFUSED);
      expect(await listed.run(request, `http://${OTHER}:80/`)).toMatch(REFUSED);
      expect(await listed.run(look, 'mixed.example.test')).toBe('ENOTFOUND');
      expect(await listed.run(look, 'other.example.test')).toBe('ENOTFOUND');
      expect(await listed.run(look, 'example.test')).toBe('ENOTFOUND');
    });

    it('D4: an address that no name it asked for has is not reached', async () => {
      const fresh = await bench.deploy('fresh', { network: { allow: ['good.example.test:80'] } });
      expect(await fresh.run(request, `http://${GOOD}/`)).toMatch(REFUSED);
      expect(await fresh.run(request, 'http://good.example.test/')).toContain('good.example.test');
      expect(await fresh.run(request, `http://${GOOD}/`)).toContain(GOOD);
    });

    it('an internal range is reached only where the operator has opened it', async () => {
      expect(await listed.run(request, 'http://172.20.9.9/')).toContain('172.20.9.9');
      await expect(bench.deploy('inside', { network: { allow: ['10.9.9.9:80'] } })).rejects.toThrow(
        /is internal/,
      );
    });

    it.each([
      'good.example.test',
      '0x7f.1:80',
      '127.1:80',
      'fd00::1',
      '010.1.2.3:80',
      'http://x:80',
      '1.2.3.4:99999',
    ])('D2: the spelling %s is refused at deploy', async (entry) => {
      await expect(bench.deploy('spelling', { network: { allow: [entry] } })).rejects.toThrow(
        /an allow list has/,
      );
    });
  });

  it('D1 D2: the same walls under runc', async () => {
    const probe = await bench.deploy('open-runc', { network: 'internet', runtimeClass: 'runc' });
    expect(await probe.run(request, `http://${GOOD}/`)).toBe(`${world.hostAddress} ${GOOD}`);
    expect(await probe.run(request, 'http://good.example.test/')).toBe(
      `${world.hostAddress} good.example.test`,
    );
    for (const address of ['10.9.9.9', '169.254.169.254'])
      expect(await probe.run(request, `http://${address}/`)).toMatch(REFUSED);
    const { port } = host.address() as AddressInfo;
    expect(await probe.run(request, `http://${world.hostAddress}:${port}/`)).toMatch(REFUSED);
  });

  it('D2: a class that cannot be given a network either starts behind the same walls or not at all', async () => {
    if (spawnSync('runsc', ['--version']).status !== 0) return;
    const config = { network: 'internet', runtimeClass: 'gvisor' } as const;
    const probe = await bench.deploy('open-gvisor', config).catch((error: Error) => error.message);
    // Debian's version of 2022 takes namespaces of newer kernels for the host's and refuses to start.
    if (typeof probe === 'string')
      return expect(probe).toMatch(/the sandbox ended before it was ready|could not start/);
    expect(await probe.run(request, 'http://10.9.9.9/')).toMatch(REFUSED);
  });

  it('refused connections and names are in the function\u2019s log, counted', async () => {
    await listed.run(request, 'http://169.254.169.254/');
    await listed.run(look, 'secret-data.attacker.test');
    const lines = await waitFor('the log', async () => {
      const found = await deniedLines('listed');
      const targets = found.map(
        (line) => (line.fields?.['egress'] as { target: string } | undefined)?.target,
      );
      return targets.includes('169.254.169.254:80') && targets.includes('secret-data.attacker.test')
        ? found
        : undefined;
    });
    expect(lines.every((line) => line.source === 'platform' && line.level === 'warn')).toBe(true);
    const { stdout } = await bench.server.cli(['logs', 'listed', '--egress']);
    expect(stdout).toContain('tcp to 169.254.169.254:80');
    expect(stdout).toContain('the name secret-data.attacker.test');
  });

  it('D2: steps of a Containerfile reach what their own policy names, and without one nothing', async () => {
    const client = createClient({ url: bench.server.url, token: bench.server.adminToken });
    await using folder = await createSourceFolder({
      Containerfile: `FROM skiff/node:26
USER 0
COPY look.js serve.js /srv/
RUN ["/usr/bin/node", "/srv/look.js"]
ENTRYPOINT ["/usr/bin/node", "/srv/serve.js"]
`,
      'look.js': `
const places = ['good.example.test', 'other.example.test', '${OTHER}', '10.9.9.9', '169.254.169.254'];
const look = (place) => fetch('http://' + place + '/', { signal: AbortSignal.timeout(5000) }).then((r) => r.text(), () => 'no');
Promise.all(places.map(look)).then((found) => require('fs').writeFileSync('/found.json', JSON.stringify(found)));
`,
      'serve.js': `require('http').createServer((q, r) => r.end(require('fs').readFileSync('/found.json'))).listen(process.env.PORT);`,
    });
    const { files, entry } = findSource(folder.path);
    const lines: string[] = [];
    const find = async (build: FunctionConfigInput['build']): Promise<unknown> => {
      const { url } = await client.deploy('steps', {
        source: () => packSource(files),
        entry,
        config: { memory: '128MB', build },
        onEvent: (event) => void (event.type === 'log' && lines.push(event.message)),
      });
      return (await fetch(url)).json();
    };
    expect(await find({})).toEqual(['no', 'no', 'no', 'no', 'no']);
    const allow = ['good.example.test:80'];
    expect(await find({ network: { allow } })).toEqual([
      `${world.hostAddress} good.example.test`,
      'no',
      'no',
      'no',
      'no',
    ]);
    expect(lines.join('\n')).toContain('egress denied: the name other.example.test');
  });

  it('D7: one function cannot fill the connection table', async () => {
    const opened = await open.run(
      ({ load }, address) =>
        new Promise<number>((resolve) => {
          let connected = 0;
          let ended = 0;
          const sockets = Array.from({ length: 700 }, () => load('net').connect({ host: address, port: 80 }));
          const end = (): void => {
            if (++ended < sockets.length) return;
            for (const socket of sockets) socket.destroy();
            resolve(connected);
          };
          for (const socket of sockets) {
            socket.once('connect', () => (connected++, end()));
            socket.once('error', end);
          }
        }),
      GOOD,
    );
    expect(opened).toBeLessThanOrEqual(512);
    expect(opened).toBeGreaterThan(100);
  });

  it('D10: when somebody removes the rules, sandboxes with egress end and the next ones have rules again', async () => {
    const table = `skiff_${createHash('sha256').update(bench.server.dataDir).digest('hex').slice(0, 8)}`;
    execFileSync('nft', ['delete', 'table', 'inet', table]);
    await waitFor('the notice', () => bench.server.log('runner').includes('the firewall rules are gone'));
    expect(
      await waitFor('a new sandbox', async () => {
        const answer = await open.send(request, 'http://10.9.9.9/').catch(() => undefined);
        return answer?.value;
      }),
    ).toMatch(REFUSED);
    expect(execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' })).toContain(table);
    expect(await open.run(request, `http://${GOOD}/`)).toContain(GOOD);
  });

  it('D10: a killed runner\u2019s namespaces are gone when the next one is ready', async () => {
    const mark = `skiff-${createHash('sha256').update(bench.server.dataDir).digest('hex').slice(0, 8)}-`;
    const names = () => readdirSync('/run/netns').filter((name) => name.startsWith(mark));
    expect(names().length).toBeGreaterThan(0);
    const old = bench.server.kill('runner');
    await waitFor('a new runner', () => bench.server.state.processes['runner'] !== old);
    expect(
      await waitFor(
        'service',
        async () => (await open.send(request, `http://${GOOD}/`).catch(() => undefined))?.value,
        30_000,
      ),
    ).toContain(GOOD);
    expect(bench.server.log('runner')).toMatch(/"networks":[1-9]/);
  });
});
