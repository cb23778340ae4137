/** `skiff dev --json` as a process, in a folder of its own, with its events. */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { DevEvent } from '../../sdk/dev/events.ts';
import { createCli, type RunningCli, type TestCli } from './cli.ts';
import { waitFor } from './wait.ts';

type Listening = { readonly type: 'listening'; readonly fn: string; readonly url: string };

export interface TestDev extends AsyncDisposable {
  readonly cli: TestCli;
  readonly running: RunningCli;
  readonly folder: string;
  events(): (DevEvent | Listening)[];
  eventsOf<Type extends DevEvent['type']>(type: Type): Extract<DevEvent, { type: Type }>[];
  urlOf(fn: string): string;
  write(name: string, text: string): Promise<void>;
  /** As editors save: a new file that takes the old one's place. */
  replace(name: string, text: string): Promise<void>;
  /** Ends it as Ctrl-C does and returns its exit code. */
  stop(): Promise<number | null>;
}

export async function startDev(
  files: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  options: {
    env?: Record<string, string>;
    functions?: number;
    prepare?: (folder: string) => Promise<void>;
  } = {},
): Promise<TestDev> {
  const cli = await createCli();
  const folder = join(cli.home, 'app');
  const write = async (name: string, text: string): Promise<void> => {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  };
  for (const [name, text] of Object.entries(files)) await write(name, text);
  await options.prepare?.(folder);
  const running = cli.start(['dev', '--json', ...args], {
    cwd: folder,
    ...(options.env && { env: options.env }),
  });
  let code: number | null | undefined;
  void running.ended.then((result) => (code = result.code));
  const events = (): (DevEvent | Listening)[] =>
    running
      .stdout()
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as DevEvent | Listening);
  const listening = (): Listening[] =>
    events().filter((event): event is Listening => event.type === 'listening');
  const dev: TestDev = {
    cli,
    running,
    folder,
    events,
    eventsOf: (type) => events().filter((event) => event.type === type) as never,
    urlOf(fn) {
      const url = listening().find((one) => one.fn === fn)?.url;
      if (url === undefined) throw new Error(`no URL of ${fn}: ${running.stdout()}${running.stderr()}`);
      return url;
    },
    write,
    async replace(name, text) {
      await write(`${name}.tmp`, text);
      await rename(join(folder, `${name}.tmp`), join(folder, name));
    },
    async stop() {
      running.process.kill('SIGINT');
      return (await running.ended).code;
    },
    [Symbol.asyncDispose]: async () => {
      if (code === undefined) await dev.stop();
      await cli.close();
    },
  };
  await waitFor('skiff dev to listen', () => {
    if (code !== undefined) throw new Error(`it ended: ${running.stderr()}`);
    return listening().length >= (options.functions ?? 1);
  });
  return dev;
}
