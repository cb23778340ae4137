/** `skiff explain`: one sentence. */
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff explain hello                 would its next call be warm, cold, waiting or refused, and why
  $ skiff explain inv-01k…              what happened to a call; its id is in the header skiff-invocation-id
  $ skiff explain hello --json | jq .facts
`;

export function define(command: Command, session: Session): void {
  command
    .argument('<subject>', 'function, service or invocation id')
    .option('--json', 'print the sentence and what it is made of')
    .addHelpText('after', EXAMPLES)
    .action(async (subject, options) => {
      const found = await openClient(session).explain(subject, { signal: session.signal });
      if (options.json) session.output.json(found);
      else session.output.out.line(found.sentence);
    });
}
