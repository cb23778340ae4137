/** `skiff open`. */
import { spawn } from 'node:child_process';
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff open hello
  $ skiff open hello --print    only print the URL
`;

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .option('-p, --print', 'print the URL and open nothing')
    .addHelpText('after', EXAMPLES)
    .action(async (name, options) => {
      const { url } = await openClient(session).get(name, { signal: session.signal });
      session.output.out.line(url);
      const { env } = session;
      const hasScreen = Boolean(env['DISPLAY'] ?? env['WAYLAND_DISPLAY']) || process.platform === 'darwin';
      if (options.print || !hasScreen || !session.output.out.isTty) return;
      const opened = await launch(process.platform === 'darwin' ? 'open' : 'xdg-open', url);
      if (!opened) session.output.err.line('no browser could be started; open the URL yourself');
    });
}

/** Only http and https go to the desktop: it would start other programs for other schemes. */
function launch(program: string, url: string): Promise<boolean> {
  if (!/^https?:$/.test(new URL(url).protocol)) return Promise.resolve(false);
  return new Promise((resolve) => {
    const child = spawn(program, [url], { stdio: 'ignore', detached: true });
    child.on('error', () => resolve(false));
    child.on('spawn', () => {
      child.unref();
      resolve(true);
    });
  });
}
