import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Dispatcher } from '../../../../infra/dispatch/dispatcher.ts';
import { Intake, type IntakeOptions } from '../../../../runner/invoke/intake.ts';
import type { Instance, Slot } from '../../../../runner/pool/instance.ts';
import type { Route } from '../../../../sdk/protocol/invocation.ts';
import { createDeployment } from '../../../helpers/deployment.ts';

/** Its gateway has given it up: what is left of it here is its slot. */
const EXPIRED: Route = {
  id: 'inv-1',
  dep: 'dep-1',
  gw: 'gw-1',
  stream: 1,
  startByMs: 0,
  deadlineMs: 0,
  enqueuedMs: 0,
  more: false,
};

/** An intake, and a sandbox of `concurrency` slots, of which `busy` are in use. */
function setUp(concurrency: number, busy = 0) {
  const offers: (readonly string[])[] = [];
  const offer: Dispatcher['offer'] = async (_deployment, tokens) => {
    offers.push(tokens);
    return [];
  };
  const slots: Slot[] = Array.from({ length: concurrency }, (_, index) => ({
    index,
    generation: 0,
    stream: 0,
  }));
  const instance = {
    state: 'active',
    deployment: createDeployment('hello'),
    slots,
    busySlots: busy,
    liveMember: 'live',
    token: ({ index, generation }: Slot) => `${index}.${generation}`,
  };
  const intake = new Intake({
    dispatcher: { offer },
    links: () => ({ unreachable: '', get: () => undefined }),
  } as unknown as IntakeOptions);
  return {
    intake,
    instance,
    offers,
    free: (index: number) =>
      intake.run(instance as unknown as Instance, slots[index] as Slot, EXPIRED, Buffer.alloc(0), 0),
  };
}

test('while most of its slots are free, those that become free wait for each other for a moment', async () => {
  const { free, offers } = setUp(8);
  free(0);
  await turn();
  free(1);
  await turn();
  expect(offers).toEqual([]);
  await delay(50);
  expect(offers).toEqual([['0.0', '1.0']]);
  free(2);
  await delay(50);
  expect(offers).toEqual([['0.0', '1.0'], ['2.0']]);
});

test('when half of them wait or are in use, all are offered with the end of the turn', async () => {
  const { free, offers } = setUp(8, 2);
  free(0);
  free(1);
  await turn();
  expect(offers).toEqual([]);
  free(2);
  await turn();
  expect(offers).toEqual([['0.0', '1.0', '2.0']]);
  await delay(50);
  expect(offers).toHaveLength(1);
});

test('the slot of a sandbox that has one is offered with the end of the turn', async () => {
  const { free, offers } = setUp(1);
  free(0);
  await turn();
  expect(offers).toEqual([['0.0']]);
});

test('a slot that gets a new token while it waits is offered once', async () => {
  const { free, intake, instance, offers } = setUp(8);
  free(0);
  free(1);
  await intake.reoffer(instance as unknown as Instance, [instance.slots[0] as Slot]);
  await delay(50);
  expect(offers).toEqual([['0.1'], ['1.0']]);
});

test('slots of a sandbox that takes nothing more are not offered', async () => {
  const { free, instance, offers } = setUp(8);
  free(0);
  instance.state = 'draining';
  await delay(50);
  expect(offers).toEqual([]);
});
