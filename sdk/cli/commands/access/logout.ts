/** `skiff logout`: the counterpart of `skiff login`: of a registry by its host, of a server by its context. */
import type { Command } from '@commander-js/extra-typings';
import { usage } from '../../failure.ts';
import type { Session } from '../../session.ts';
import { logoutOfRegistry } from './registry.ts';

const EXAMPLES = `
Examples:
  $ skiff logout host:5000           the server forgets its login to this registry of images
  $ skiff context rm prod            this computer forgets a Skiff server and its token
`;

export function define(command: Command, session: Session): void {
  command
    .argument('[registry]', 'host of a registry, as in image names')
    .addHelpText('after', EXAMPLES)
    .action(async (registry) => {
      if (registry === undefined)
        throw usage(
          'log out of what?',
          'of a registry: skiff logout host:5000; of a Skiff server: skiff context rm',
        );
      await logoutOfRegistry(session, registry);
    });
}
