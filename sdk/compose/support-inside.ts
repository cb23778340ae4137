/** What Skiff does with what stands below `deploy`, and with ports: parts of the judgement in support.ts. */
import type { Service } from './model.ts';

type Say = (path: string, reason: string) => void;
type Map = Readonly<Record<string, unknown>>;

/** A sandbox is asked on one port, whatever an outsider would have seen. */
export function checkPorts({ ports, expose }: Service, refuse: Say, pass: Say): void {
  const targets = [...new Set([...ports.map(({ target }) => target), ...expose.map(Number)])];
  if (targets.length > 1)
    refuse('ports', `a sandbox is asked on one port, and these are ${targets.length}; leave the one of HTTP`);
  if (ports.some(({ protocol }) => protocol !== 'tcp')) refuse('ports', 'only HTTP is spoken, which is TCP');
  const published = ports.find((port) => port.published !== undefined);
  if (published) pass('ports.published', 'it is reached through the gateway, at /f/<name>');
}

/** By path below `deploy`. What is in neither list is used. */
const MOOT: readonly (readonly [string, string])[] = [
  ['endpoint_mode', 'calls are spread over the replicas by the gateway'],
  ['labels', 'labels of the service are used'],
  ['resources.reservations.cpus', 'placement goes by the limit'],
  ['resources.reservations.memory', 'placement goes by the limit'],
  [
    'restart_policy.delay',
    'a replica that ended is started again at once, and later when it ends again and again',
  ],
  ['restart_policy.max_attempts', 'replicas are always started again'],
  ['restart_policy.window', 'replicas are always started again'],
];
const REFUSED: readonly (readonly [string, string])[] = [
  ['resources.limits.pids', 'the limit of processes is the platform\u2019s'],
  ['resources.reservations.devices', 'sandboxes have no devices'],
  ['resources.reservations.generic_resources', 'sandboxes have no devices'],
  ['rollback_config.max_failure_ratio', 'the first replica that fails decides, by failure_action'],
  ['update_config.max_failure_ratio', 'the first replica that fails decides, by failure_action'],
];

export function checkDeploy({ deploy: { raw } }: Service, refuse: Say, pass: Say): void {
  for (const [path, reason] of MOOT) if (find(raw, path) !== undefined) pass(`deploy.${path}`, reason);
  for (const [path, reason] of REFUSED) if (find(raw, path) !== undefined) refuse(`deploy.${path}`, reason);
  const condition = find(raw, 'restart_policy.condition');
  if (condition === 'none' || condition === 'no')
    refuse(
      'deploy.restart_policy.condition',
      'replicas are always started again; deploy a function and invoke it',
    );
}

function find(raw: Map, path: string): unknown {
  let value: unknown = raw;
  for (const key of path.split('.')) value = (value as Map | null | undefined)?.[key];
  return value ?? undefined;
}
