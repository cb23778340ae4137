/**
 * How an update of a service goes on: completed, failed (and then paused, rolled back or carried on), rolled back.
 * Pure. An update fails when a replica of the new deployment fails within the time it is watched.
 */
import type { Service, UpdateState } from '../../../sdk/protocol/swarm/resources.ts';
import { isMadeFor, type Plan, type Situation } from './plan.ts';

/** The service as it is to be written, undefined when nothing changes. */
export function advanceUpdate(situation: Situation, plan: Plan): Service | undefined {
  const { service } = situation;
  const status = service.updateStatus;
  if (status?.state !== 'updating' && status?.state !== 'rolling-back') return undefined;
  const failure = findFailure(situation, status.startedMs);
  if (failure !== undefined) {
    if (status.state === 'rolling-back') {
      if (service.spec.rollback?.failureAction !== 'continue')
        return change(service, 'paused', `the rollback failed: ${failure}`);
    } else
      switch (service.spec.update.failureAction) {
        case 'pause':
          return change(service, 'paused', failure);
        case 'rollback':
          return service.previousSpec === undefined
            ? change(service, 'paused', `${failure}; there is nothing to roll back to`)
            : rollBack(service, failure, situation.nowMs);
        case 'continue':
          break;
      }
  }
  if (plan.settled < plan.desired || plan.proven < plan.desired || hasOld(situation)) return undefined;
  return status.state === 'updating'
    ? change(service, 'completed', 'update completed')
    : change(service, 'rolled-back', status.message);
}

/** Back to the specification before the last update. @throws nothing; the caller checked that there is one. */
export function rollBack(service: Service, reason: string, nowMs: number): Service {
  const { previousSpec, ...rest } = service;
  return {
    ...rest,
    // How to go back is said by what is left, as it knows what is wrong with it.
    spec: {
      ...(previousSpec ?? service.spec),
      ...(service.spec.rollback && { rollback: service.spec.rollback }),
    },
    previousSpec: service.spec,
    updateStatus: { state: 'rolling-back', startedMs: nowMs, message: reason },
  };
}

function change(service: Service, state: UpdateState, message: string): Service {
  const startedMs = service.updateStatus?.startedMs ?? service.updatedMs;
  return { ...service, updateStatus: { state, startedMs, message } };
}

function findFailure({ service, replicas }: Situation, sinceMs: number): string | undefined {
  const failed = replicas.find(
    (replica) => replica.state === 'failed' && isMadeFor(replica, service) && replica.sinceMs >= sinceMs,
  );
  if (failed === undefined) return undefined;
  return `replica ${service.name}.${failed.slot} of ${failed.deployment} failed on ${failed.node}: ${failed.message ?? 'no reason given'}`;
}

function hasOld({ service, replicas }: Situation): boolean {
  return replicas.some(
    (replica) =>
      !isMadeFor(replica, service) && (replica.state === 'running' || replica.state === 'stopping'),
  );
}
