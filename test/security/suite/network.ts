/** A function without egress: there is nothing to reach and nobody who could reach it. */
import { createServer } from 'node:net';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { Ground } from './escapes.ts';

const FORBIDDEN = [
  '169.254.169.254',
  '100.64.0.1',
  '10.0.0.1',
  '172.17.0.1',
  '192.168.1.1',
  '0.0.0.0',
  '224.0.0.1',
  '255.255.255.255',
  'fd00:ec2::254',
  'fe80::1',
  'fd12:3456::1',
  'ff02::1',
  '::ffff:169.254.169.254',
  '64:ff9b::a00:1',
];

export function defineNetwork(ground: () => Ground): void {
  const connect = (host: string, port: number): Promise<string> =>
    ground().probe.run(
      ({ load }, ...[address, to]: [string, number]) =>
        new Promise<string>((resolve) => {
          const socket = load('net').connect({ host: address, port: to });
          socket.setTimeout(2_000, () => (socket.destroy(), resolve('no answer')));
          socket.once('connect', () => (socket.destroy(), resolve('connected')));
          socket.once('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? 'failed'));
        }),
      host,
      port,
    );

  describe('network without egress', () => {
    it('D1: its namespace has loopback and nothing else', async () => {
      const names = await ground()
        .probe.run(({ load }) => load('fs').readFileSync('/proc/self/net/dev', 'utf8'))
        .catch(() => 'hidden');
      if (names === 'hidden') return;
      const devices = names
        .split('\n')
        .slice(2)
        .map((line) => line.split(':')[0]?.trim())
        .filter(Boolean);
      // Tunnels that some kernels put into every namespace are down and cannot be brought up without capabilities.
      expect(
        devices.filter(
          (name) =>
            !/^(?:lo|sit0|tunl0|ip6tnl0|gre0|gretap0|erspan0|ip_vti0|ip6_vti0|ip6gre0)$/.test(name ?? ''),
        ),
      ).toEqual([]);
    });

    it.each(FORBIDDEN)('D1: %s cannot be reached', async (address) => {
      expect(await connect(address, 80)).toMatch(
        /^(?:ENETUNREACH|EHOSTUNREACH|ECONNREFUSED|EINVAL|EACCES|EPERM|EADDRNOTAVAIL)$/,
      );
    });

    it('D1: a program of the host is not reached on any address of the host', async () => {
      const server = createServer((socket) => socket.end());
      let reached = 0;
      server.on('connection', () => reached++);
      server.listen(0, '::');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      try {
        const addresses = Object.values(networkInterfaces()).flatMap((list) =>
          (list ?? []).map((one) => one.address),
        );
        for (const address of ['127.0.0.1', '::1', ...addresses])
          expect(await connect(address, port)).not.toBe('connected');
        expect(reached).toBe(0);
      } finally {
        server.close();
      }
    });

    it('D1: the gateway, the registry and both Redis are out of reach', async () => {
      const { state, dataDir } = ground().bench.server;
      for (const url of [state.url, state.registryUrl]) {
        expect(await connect('127.0.0.1', Number(new URL(url).port))).not.toBe('connected');
      }
      const sockets = ['redis.sock', 'fast.sock'].map((name) => `${dataDir}/run/${name}`);
      const found = await ground().probe.run(
        ({ load }, paths) => paths.filter((path) => load('fs').existsSync(path)),
        sockets,
      );
      expect(found).toEqual([]);
    });

    it('D1: datagrams leave as little as connections do', async () => {
      const codes = await ground().probe.run(
        async ({ load }, addresses) =>
          Promise.all(
            addresses.map(
              (address) =>
                new Promise<string>((resolve) => {
                  const socket = load('dgram').createSocket('udp4');
                  socket.send('x', 53, address, (error) => {
                    socket.close();
                    resolve((error as { code?: string } | null)?.code ?? 'sent');
                  });
                }),
            ),
          ),
        ['10.0.0.1', '169.254.169.254', '192.0.2.1', '224.0.0.251'],
      );
      expect(codes).not.toContain('sent');
    });

    it('D1: names do not resolve, at once', async () => {
      const code = await ground().probe.run(({ load }) =>
        load('dns/promises')
          .lookup('example.test')
          .then(
            () => 'resolved',
            (error: NodeJS.ErrnoException) => error.code,
          ),
      );
      expect(code).toMatch(/^(?:EAI_AGAIN|ENOTFOUND|ECONNREFUSED)$/);
    });

    it('D8: a port that it listens on is not reachable from the host', async () => {
      const port = await ground().probe.run(
        ({ load }) =>
          new Promise<number>((resolve) => {
            const server = load('net')
              .createServer()
              .listen(0, '0.0.0.0', () => resolve((server.address() as AddressInfo).port));
            server.unref();
          }),
      );
      await expect(
        fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(2_000) }),
      ).rejects.toThrow();
    });

    it('A24: an abstract socket of one sandbox does not exist in another', async () => {
      await ground().probe.run(
        ({ load }) =>
          new Promise<void>((resolve) => {
            load('net').createServer().unref().listen('\0skiff-abstract', resolve);
          }),
      );
      const attack = ({ load }: { load(name: 'net'): typeof import('node:net') }) =>
        new Promise<string>((resolve) => {
          const socket = load('net').connect('\0skiff-abstract');
          socket.once('connect', () => (socket.destroy(), resolve('connected')));
          socket.once('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? 'failed'));
        });
      expect(await ground().probe.run(attack)).toBe('connected');
      expect(await ground().compat.run(attack)).toBe('ECONNREFUSED');
    });

    it('A24: System V and POSIX message queues, semaphores and shared memory are refused', async () => {
      const results = await ground().probe.run(({ syscall }) => [
        syscall(29, 1, 4096, 0o1600),
        syscall(64, 1, 1, 0o1600),
        syscall(68, 1, 0o1600),
        syscall(240, '/queue', 0o100, 0o600, 0),
      ]);
      expect(results).toEqual([-1, -1, -1, -1]);
    });

    it('A24: a shared file cannot be watched: opens by neighbours stay unseen', async () => {
      const result = await ground().probe.run(({ syscall }) => syscall(294, 0));
      expect(result).toBeLessThan(0);
    });
  });
}
