/** Handlers of volumes. Deliberately absent: making one. A volume begins with the service that first uses it. */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Volume, VolumeState } from '../../sdk/protocol/swarm/resources.ts';
import { owns } from '../middleware/auth.ts';
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from '../routes/route.ts';
import { readLiveNodes } from './nodes.ts';
import { findUsers } from './service/volumes.ts';

export function createVolumeHandlers(
  parts: GatewayParts,
): Pick<Handlers, 'listVolumes' | 'readVolume' | 'removeVolume'> {
  const { volumes } = parts.swarm;

  async function describe(list: readonly Volume[]): Promise<VolumeState[]> {
    const [nodes, users] = await Promise.all([readLiveNodes(parts.fast), findUsers(parts)]);
    return list.map((volume) => {
      const usage = nodes.find(({ id }) => id === volume.node)?.volumes?.[volume.id];
      const service = users.get(volume.name);
      return { ...volume, ...(service !== undefined && { service }), ...usage };
    });
  }

  return {
    async listVolumes(_input, context) {
      const all = await volumes.list();
      return { volumes: await describe(all.filter(({ name }) => owns(context.get('token'), name))) };
    },

    async readVolume({ name }) {
      const volume = await volumes.get(name);
      if (!volume)
        throw new SkiffError('NOT_FOUND', `there is no volume "${name}"; \`skiff volume ls\` lists them`);
      return (await describe([volume]))[0] as VolumeState;
    },

    async removeVolume({ name, query: { force = false } }) {
      const service = (await findUsers(parts)).get(name);
      if (service !== undefined)
        throw new SkiffError(
          'CONFLICT',
          `the volume "${name}" is used by the service "${service}"; remove that first: skiff service rm ${service}`,
        );
      const volume = await volumes.remove(name);
      const isUp = (await readLiveNodes(parts.fast)).some(({ id }) => id === volume.node);
      // Its node would do so when it is up again; who forces knows that it never will be.
      if (!isUp && force) await volumes.drop(volume);
      return undefined;
    },
  };
}
