/** Schedules: functions that run by the clock. */
import type { AcceptedInvocation } from '../protocol/events.ts';
import type { Schedule, ScheduleRequest } from '../protocol/workflow/schedules.ts';
import type { ClientResponse } from './fetch.ts';
import type { CallOptions } from './functions.ts';
import type { Transport } from './transport.ts';

export interface Schedules {
  schedules: {
    /** By name. */
    list(options?: CallOptions): Promise<Schedule[]>;
    get(name: string, options?: CallOptions): Promise<Schedule>;
    /** Creates or replaces: exactly one of `cron`, `every` and `at`. */
    put(name: string, schedule: ScheduleRequest, options?: CallOptions): Promise<Schedule>;
    remove(name: string, options?: CallOptions): Promise<void>;
    pause(name: string, options?: CallOptions): Promise<Schedule>;
    /** Goes on from the next tick after now. */
    resume(name: string, options?: CallOptions): Promise<Schedule>;
    /** Runs it now, beside its ticks. */
    run(name: string, options?: CallOptions): Promise<AcceptedInvocation>;
  };
}

export function createSchedules(transport: Transport<ClientResponse>): Schedules {
  const pathOf = (name: string): string => `/v1/schedules/${encodeURIComponent(name)}`;
  const order = <T>(verb: string, name: string, { signal }: CallOptions = {}): Promise<T> =>
    transport.json({
      what: `${verb} schedule ${name}`,
      method: 'POST',
      path: `${pathOf(name)}/${verb}`,
      signal,
    });

  return {
    schedules: {
      list: ({ signal } = {}) =>
        transport
          .json<{ schedules: Schedule[] }>({ what: 'list schedules', path: '/v1/schedules', signal })
          .then((body) => body.schedules),
      get: (name, { signal } = {}) =>
        transport.json({ what: `schedule ${name}`, path: pathOf(name), signal }),
      put: (name, schedule, { signal } = {}) =>
        transport.json({
          what: `schedule ${name}`,
          method: 'PUT',
          path: pathOf(name),
          headers: [['content-type', 'application/json']],
          body: JSON.stringify(schedule),
          signal,
        }),
      async remove(name, { signal } = {}) {
        const what = `remove schedule ${name}`;
        const response = await transport.send({ what, method: 'DELETE', path: pathOf(name), signal });
        await response.text();
      },
      pause: (name, options) => order('pause', name, options),
      resume: (name, options) => order('resume', name, options),
      run: (name, options) => order('run', name, options),
    },
  };
}
