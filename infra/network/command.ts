/** Runs `ip` and `nft`: arguments as a list, programs' input as text, their complaint as an error. */
import { spawn } from 'node:child_process';
import { SkiffError } from '../../sdk/protocol/errors.ts';

const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
const OUTPUT_BYTES_MAX = 16 * 1024 ** 2;
const MS_MAX = 10_000;

/** Resolves to what the program printed. Rejects with COLD_START_FAILED and what it complained about. */
export async function runTool(program: string, args: readonly string[], input = ''): Promise<string> {
  const child = spawn(program, args, { env: { PATH, LANG: 'C' }, timeout: MS_MAX, killSignal: 'SIGKILL' });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (output.length < OUTPUT_BYTES_MAX) output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text.slice(0, 4096)));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const how = await new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code === 0 ? undefined : `exit ${code ?? signal}`));
  });
  if (how === undefined) return output;
  const detail = errors.trim().split('\n')[0] ?? '';
  throw new SkiffError(
    'COLD_START_FAILED',
    `${program} ${args.slice(0, 3).join(' ')} failed: ${detail || how}`,
  );
}
