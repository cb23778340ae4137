/** Reads a secret from a pipe, or from the terminal without showing it. Never from an argument: `ps` shows those. */
import type { Session } from '../session.ts';
import { CliFailure } from '../failure.ts';

export async function readSecret(session: Session, prompt: string): Promise<string> {
  const { stdin, output } = session;
  if (!stdin.isTTY) {
    const chunks: Buffer[] = [];
    for await (const chunk of stdin) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString('utf8').trim();
  }
  await output.err.write(prompt);
  return readHidden(session);
}

const END_OF_LINE = new Set(['\r', '\n', '\u0004']);
const CTRL_C = '\u0003';
const ERASE = new Set(['\u007f', '\b']);

function readHidden({ stdin, output }: Session): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const end = (): void => {
      stdin.off('data', onData);
      stdin.setRawMode(false);
      stdin.pause();
      output.err.line();
    };
    const onData = (data: Buffer): void => {
      for (const character of data.toString('utf8')) {
        if (END_OF_LINE.has(character)) {
          end();
          return resolve(text.trim());
        }
        if (character === CTRL_C) {
          end();
          return reject(new CliFailure('stopped', { exitCode: 130 }));
        }
        text = ERASE.has(character) ? text.slice(0, -1) : text + character;
      }
    };
    stdin.setRawMode(true);
    stdin.on('data', onData);
    stdin.resume();
  });
}
