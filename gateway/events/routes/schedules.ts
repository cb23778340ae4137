/** Schedules: what is fired when. */
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { SCHEDULES_MAX } from '../../../sdk/protocol/limits.ts';
import { FunctionName } from '../../../sdk/protocol/manifest.ts';
import { mayReach, namespaceOf } from '../../../sdk/protocol/reach/namespaces.ts';
import type { Schedule, ScheduleInput } from '../../../sdk/protocol/workflow/schedules.ts';
import { assertTiming, nextInstant } from '../../../infra/schedules/instants.ts';
import { timingOf } from '../../../infra/schedules/store.ts';
import { owns } from '../../middleware/auth.ts';
import { chooseTarget } from '../../invoke/routes.ts';
import { functionNotFound } from '../../routes/links.ts';
import type { Handlers } from '../../routes/route.ts';
import { describeReceipt } from '../accept/http-entrance.ts';
import type { EventParts } from '../parts.ts';
import { createTickEvent } from '../schedule/tick-event.ts';

type ScheduleRoutes =
  | 'listSchedules'
  | 'getSchedule'
  | 'putSchedule'
  | 'removeSchedule'
  | 'pauseSchedule'
  | 'resumeSchedule'
  | 'runSchedule';

export function createScheduleHandlers({
  schedules,
  routes,
  acceptor,
}: EventParts): Pick<Handlers, ScheduleRoutes> {
  async function get(name: string): Promise<Schedule> {
    const schedule = await schedules.get(name);
    if (schedule) return schedule;
    throw new SkiffError('NOT_FOUND', `there is no schedule "${name}"; GET /v1/schedules lists them`);
  }

  async function put(name: string, input: ScheduleInput): Promise<Schedule> {
    const schedule = await schedules.put(name, input, Date.now());
    if (schedule) return schedule;
    throw new SkiffError('CONFLICT', `there are ${SCHEDULES_MAX} schedules, which is the limit; remove some`);
  }

  /** What was asked for, without what has become of it. */
  async function inputOf(name: string): Promise<ScheduleInput> {
    await get(name);
    const definition = await schedules.getDefinition(name);
    return (definition as NonNullable<typeof definition>).input;
  }

  return {
    async listSchedules(_input, c) {
      const all = await schedules.list();
      return { schedules: all.filter(({ name }) => owns(c.var.token, name)) };
    },

    getSchedule: ({ name }) => get(name),

    async putSchedule({ name, body }) {
      const parsed = FunctionName.safeParse(name);
      if (!parsed.success) {
        throw new SkiffError('INVALID_NAME', `schedule name "${name}": ${parsed.error.issues[0]?.message}`);
      }
      if (!mayReach(name, body.function)) {
        const message = `a schedule of the namespace "${namespaceOf(name)}" runs functions of that namespace; "${body.function}" is none`;
        throw new SkiffError('BAD_REQUEST', message);
      }
      const timing = timingOf({ input: body, createdMs: Date.now() });
      assertTiming(timing);
      if (nextInstant(timing, Date.now()) === undefined) {
        throw new SkiffError('BAD_REQUEST', `schedule "${name}" has no instant in the future`);
      }
      if (!(await routes.get(body.function))) throw functionNotFound(body.function);
      return put(name, body);
    },

    async removeSchedule({ name }) {
      if (!(await schedules.remove(name))) await get(name);
      return undefined;
    },

    async pauseSchedule({ name }) {
      return put(name, { ...(await inputOf(name)), paused: true });
    },

    async resumeSchedule({ name }) {
      return put(name, { ...(await inputOf(name)), paused: false });
    },

    async runSchedule({ name }) {
      const input = await inputOf(name);
      const route = await routes.get(input.function);
      if (!route) throw functionNotFound(input.function);
      const event = createTickEvent(
        { name, input },
        Date.now(),
        chooseTarget(route, Math.random()),
        undefined,
      );
      return describeReceipt(await acceptor.accept(event));
    },
  };
}
