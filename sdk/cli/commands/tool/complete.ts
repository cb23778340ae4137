/** `skiff complete -- <words…>`: called by the completion scripts, not by people. */
import type { Command } from '@commander-js/extra-typings';
import { suggest } from '../../completion.ts';
import { createFullProgram } from '../../program.ts';
import type { Session } from '../../session.ts';

export function define(command: Command, session: Session): void {
  command
    .argument('[words...]', 'the words after "skiff", the last one being typed')
    .action(async (words) => {
      const candidates = await suggest(await createFullProgram(session), words, session);
      for (const { value, description } of candidates) session.output.out.line(`${value}\t${description}`);
    });
}
