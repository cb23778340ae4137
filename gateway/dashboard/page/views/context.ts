/** What every view is given. */
import type { StatsSnapshot, TokenRecord } from '../../../../sdk/protocol/api.ts';
import type { Api } from '../api.ts';

export interface ViewProps {
  readonly api: Api;
  readonly token: TokenRecord;
  readonly snapshot: StatsSnapshot | undefined;
  /** Calls a second of each function in the last minute, oldest first. */
  readonly history: ReadonlyMap<string, readonly number[]>;
  readonly onDenied: () => void;
}

export function mayDeploy({ scopes }: TokenRecord): boolean {
  return scopes.includes('admin') || scopes.includes('deploy');
}
