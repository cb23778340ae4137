/**
 * One network namespace with a link to the host: made before its sandbox, removed after it, never used again.
 * Both ends have point-to-point routes and no IPv6 address, so there is no shared segment on which neighbours could
 * be found, listened to or impersonated.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { runTool } from './command.ts';

const REMOVALS_MAX = 8;
const REMOVAL_MS = 25;

export interface NamespacePlan {
  /** In /run/netns. */
  readonly name: string;
  /** The host's end; at most 15 characters. */
  readonly link: string;
  readonly address: string;
  readonly gateway: string;
}

/** Rejects with COLD_START_FAILED and leaves nothing. */
export async function createNamespace(plan: NamespacePlan): Promise<void> {
  const { name, link, address, gateway } = plan;
  try {
    await runTool(
      'ip',
      ['-batch', '-'],
      [
        `netns add ${name}`,
        `link add ${link} type veth peer name eth0 netns ${name}`,
        ...withoutIpv6(link),
        `addr add ${gateway}/32 dev ${link}`,
        `link set ${link} up`,
        `route add ${address}/32 dev ${link}`,
      ].join('\n'),
    );
    guardLink(link);
    await runTool(
      'ip',
      ['-netns', name, '-batch', '-'],
      [
        'link set lo up',
        `addr add ${address}/32 dev eth0`,
        ...withoutIpv6('eth0'),
        'link set eth0 up',
        `route add ${gateway} dev eth0 scope link`,
        `route add default via ${gateway} dev eth0`,
      ].join('\n'),
    );
  } catch (error) {
    await removeNamespace(plan);
    throw error;
  }
}

/** The link goes with its namespace; removing it as well helps when a process still holds the namespace. */
export async function removeNamespace({ name, link }: Pick<NamespacePlan, 'name' | 'link'>): Promise<void> {
  await runTool('ip', ['link', 'delete', link]).catch(() => {});
  // While another process makes its own copy of the mounts, a namespace is busy for a moment.
  for (let attempt = 0; attempt < REMOVALS_MAX; attempt++) {
    await runTool('ip', ['netns', 'delete', name]).catch(() => {});
    if (!existsSync(`/run/netns/${name}`)) return;
    await delay(REMOVAL_MS * (attempt + 1));
  }
}

/** Before the device is up: then it never has an address of its own making. */
function withoutIpv6(device: string): string[] {
  return existsSync('/proc/sys/net/ipv6') ? [`link set ${device} addrgenmode none`] : [];
}

function guardLink(link: string): void {
  const knobs: readonly (readonly [string, string])[] = [
    [`ipv4/conf/${link}/forwarding`, '1'],
    // Packets that claim another source are dropped before any rule.
    [`ipv4/conf/${link}/rp_filter`, '1'],
    // The host answers for its address on this link, not for those it has elsewhere.
    [`ipv4/conf/${link}/arp_ignore`, '1'],
    [`ipv4/conf/${link}/accept_redirects`, '0'],
    [`ipv4/conf/${link}/send_redirects`, '0'],
    [`ipv4/conf/${link}/accept_source_route`, '0'],
  ];
  for (const [knob, value] of knobs) writeFileSync(`/proc/sys/net/${knob}`, value);
}
