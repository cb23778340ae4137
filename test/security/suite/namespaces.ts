/** Functions of two namespaces and of none: what they can reach of each other, and how many sandboxes they get. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Client } from '../../../sdk/client/index.ts';
import { findSource } from '../../../sdk/cli/source/files.ts';
import { packSource } from '../../../sdk/cli/source/pack.ts';
import type { FunctionConfigInput } from '../../../sdk/protocol/manifest.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import type { Bench, Probe } from '../probe.ts';

/** As an operator sets it for this suite. */
export const SMALL_NAMESPACE = 'small=2';

export function defineNamespaces(ground: () => { readonly client: Client; readonly bench: Bench }): void {
  describe('namespaces', () => {
    let probe: Probe;

    const deploy = async (
      name: string,
      fixture: string,
      config: FunctionConfigInput = {},
    ): Promise<string> => {
      const { files, entry } = findSource(functionFixture(fixture));
      return (await ground().client.deploy(name, { source: () => packSource(files), entry, config })).url;
    };

    beforeAll(async () => {
      const { client, bench } = ground();
      await client.secrets.set('team.shared-name', 'secret of team');
      await client.secrets.set('other.shared-name', 'secret of other');
      await client.secrets.set('shared-name', 'secret of nobody');
      await deploy('team.private', 'mirror.ts', { access: 'private' });
      await deploy('other.private', 'mirror.ts', { access: 'private' });
      await deploy('global', 'mirror.ts');
      probe = await bench.deploy('team.probe', {
        calls: ['private', 'alias=team.private'],
        secrets: ['shared-name'],
      });
    });

    const invoke = (target: string, init: RequestInit = {}): Promise<{ status: number; text: string }> =>
      probe.run(
        async (_tools, to, options) => {
          try {
            const response = await fetch(`http://${to}.skiff/?body=hello`, options);
            return { status: response.status, text: await response.text() };
          } catch (error) {
            const { message, cause } = error as Error;
            return { status: 0, text: `${message} ${(cause as Error | undefined)?.message ?? ''}` };
          }
        },
        target,
        init,
      );

    it.each(['private', 'alias'])(
      'F4: a function of one namespace calls its private neighbour as "%s"',
      async (name) => {
        expect(await invoke(name)).toEqual({ status: 200, text: 'hello' });
      },
    );

    it.each(['other.private', 'team.private', 'global', 'constructor', 'private.skiff', '..', 'other'])(
      'F4: a function of one namespace does not reach "%s", which it does not declare',
      async (target) => {
        const { status, text } = await invoke(target);
        expect(status).toBe(0);
        expect(text).toMatch(/does not declare|Invalid URL|fetch failed|ENOTFOUND|EAI_AGAIN/i);
      },
    );

    it.each([
      ['calls', { calls: ['other.private'] }],
      ['an alias', { calls: ['private=other.private'] }],
      ['a destination', { async: { onFailure: { function: 'other.private' } } }],
    ])('F4: it cannot declare what is of another namespace, by %s', async (_what, config) => {
      await expect(deploy('team.greedy', 'mirror.ts', config)).rejects.toThrow(
        /functions of the namespace "team"/,
      );
    });

    it('F4: nor by what stands in its code, which only the builder reads', async () => {
      await expect(deploy('team.greedy', 'greedy.ts')).rejects.toThrow(/functions of the namespace "team"/);
    });

    it('E8: what it says of itself on the channel is replaced by what the runner knows', async () => {
      const headers = {
        'skiff-caller': 'admin',
        'skiff-call-depth': '0',
        forwarded: 'for=6.6.6.6',
        'x-mine': 'kept',
      };
      const { text } = await probe.run(async (_tools, sent) => {
        const response = await fetch('http://private.skiff/', { headers: sent });
        return { text: await response.text() };
      }, headers);
      const seen = new Map(JSON.parse(text) as [string, string][]);
      expect(seen.get('skiff-caller')).toBe('team.probe');
      expect(Number(seen.get('skiff-call-depth'))).toBeGreaterThan(0);
      expect(text).not.toMatch(/6\.6\.6\.6|admin/);
      expect(seen.get('x-mine')).toBe('kept');
    });

    it('D6: a flood of calls is refused beyond its number, and costs nobody else', async () => {
      const flood = probe.run(async () => {
        const one = () =>
          fetch('http://private.skiff/?body=x').then(
            async (response) => (await response.text(), response.status),
            () => 0,
          );
        const counts: Record<number, number> = {};
        for (let round = 0; round < 5; round++)
          for (const status of await Promise.all(Array.from({ length: 1_000 }, one)))
            counts[status] = (counts[status] ?? 0) + 1;
        return counts;
      });
      const { server } = ground().bench;
      for (let i = 0; i < 10; i++) expect((await server.fetch('/f/global?body=x')).status).toBe(200);
      const counts = await flood;
      expect(counts[200]).toBeGreaterThan(0);
      expect(Object.values(counts).reduce((sum, count) => sum + count, 0)).toBe(5_000);
      expect(await invoke('private')).toEqual({ status: 200, text: 'hello' });
    });

    it('F10: it is given the secret of its own namespace, and no other', async () => {
      const [variable, file] = await probe.run(({ load }) => [
        process.env['SHARED_NAME'],
        load('fs').readFileSync('/run/secrets/shared-name', 'utf8'),
      ]);
      expect([variable, file]).toEqual(['secret of team', 'secret of team']);
      for (const secret of ['other.shared-name', 'team.shared-name'])
        await expect(deploy('team.greedy', 'mirror.ts', { secrets: [secret] })).rejects.toThrow(/secret/);
    });

    it('I7: a namespace has as many sandboxes as its limit, whatever its functions ask for', async () => {
      const { bench, client } = ground();
      const config = { concurrency: 1, max: 10, memory: '128MB' } as const;
      const [one, two] = [
        await deploy('small.one', 'behaviour.ts', config),
        await deploy('small.two', 'behaviour.ts', config),
      ];
      const calls = [one, one, one, two, two, two].map((url) => fetch(`${url}/deaf?ms=3000`));
      const most = { count: 0 };
      let isOver = false;
      const all = Promise.all(calls).finally(() => (isOver = true));
      while (!isOver) {
        const list = (await client.list()).filter(({ name }) => name.startsWith('small.'));
        most.count = Math.max(
          most.count,
          list.reduce((sum, { sandboxes = 0 }) => sum + sandboxes, 0),
        );
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const statuses = (await all).map(({ status }) => status);
      expect(most.count).toBeLessThanOrEqual(2);
      expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(2);
      for (const status of statuses) expect([200, 429]).toContain(status);
      // A namespace that is full is nobody else's trouble.
      expect((await bench.server.fetch('/f/global?body=x')).status).toBe(200);
    });

    it('the command line makes tokens of a namespace, and deploys with them', async () => {
      const { bench } = ground();
      const made = await bench.server.cli([
        'token',
        'create',
        'ci',
        '--scope',
        'deploy',
        '--namespace',
        'team',
      ]);
      const token = made.stdout.trim();
      const cli = async (...args: string[]): Promise<string> => {
        const bin = new URL('../../../sdk/cli/main.ts', import.meta.url).pathname;
        const env = { ...process.env, SKIFF_URL: bench.server.url, SKIFF_TOKEN: token };
        const run = promisify(execFile)(process.execPath, [bin, ...args], { env });
        return run.then(
          ({ stdout }) => stdout,
          (error: { stderr: string }) => error.stderr,
        );
      };
      expect(await cli('ls', '-q')).toBe('team.private\nteam.probe\n');
      expect(await cli('secret', 'ls', '--json')).not.toContain('other');
      const fixture = functionFixture('mirror.ts');
      expect(await cli('deploy', fixture, '--name', 'made', '--namespace', 'team')).toContain('/f/team.made');
      expect(await cli('deploy', fixture, '--name', 'made')).toMatch(
        /good for what is called "team\.<name>"/,
      );
      expect(await cli('rm', 'other.private')).toMatch(/nothing else/);
    });
  });
}
