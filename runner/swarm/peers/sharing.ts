/** What a node says of the layers that it gives and gets. */
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import type { LayerStore } from '../../../infra/oci/store.ts';
import type { PeerServer } from './peer-server.ts';
import type { Peers } from './peers.ts';

export function describeSharing(
  { isOn, got, fromRegistry, failed }: Peers,
  { given }: PeerServer,
  store: Pick<LayerStore, 'keptUsage'>,
): NodeRecord['peers'] {
  if (!isOn) return undefined;
  const { summary, count, bytes } = store.keptUsage();
  return { summary, kept: { count, bytes }, given, got, fromRegistry, failed };
}
