/** `--build-arg`, `--target`, `--build-network` and `--install-scripts` as the configuration of a build. */
import { readNetwork } from './network.ts';
import { parseAssignment } from './parse.ts';

export interface BuildOptions {
  readonly buildArg?: readonly string[] | undefined;
  readonly target?: string | undefined;
  readonly buildNetwork?: readonly string[] | undefined;
  readonly installScripts?: true | undefined;
}

/** Undefined when nothing is said, so that what the code says stands. */
export function readBuildOptions({
  buildArg,
  target,
  buildNetwork,
  installScripts,
}: BuildOptions): Record<string, unknown> | undefined {
  const build = {
    ...(buildArg && { args: Object.fromEntries(buildArg.map(parseAssignment)) }),
    ...(target !== undefined && { target }),
    ...(buildNetwork && { network: readNetwork(buildNetwork) }),
    ...(installScripts && { installScripts }),
  };
  return Object.keys(build).length === 0 ? undefined : build;
}
