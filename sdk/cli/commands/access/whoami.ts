/** `skiff whoami`: which server, by which token, and what that may. */
import type { Command } from '@commander-js/extra-typings';
import { chooseServer, openClient } from '../../connection/server.ts';
import { formatAgo } from '../../output/quantities.ts';
import { formatFields } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff whoami
  $ skiff whoami --context prod --json
`;

export function define(command: Command, session: Session): void {
  command
    .option('--json', 'print { server, origin, token }')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const { url, origin } = chooseServer(session);
      const token = await openClient(session).whoAmI({ signal: session.signal });
      if (options.json) return session.output.json({ server: url, origin, token });
      const { out } = session.output;
      const fields = formatFields(out, [
        ['server', `${url} (${origin})`],
        ['token', `${token.name} (${token.id})`],
        ['may', token.scopes.join(', ')],
        ['good for', token.functions?.join(', ') ?? (token.namespace && `${token.namespace}.*`)],
        ['created', formatAgo(token.createdMs, Date.now())],
        ['expires', token.expiresMs === undefined ? undefined : new Date(token.expiresMs).toISOString()],
      ]);
      for (const line of fields) out.line(line);
    });
}
