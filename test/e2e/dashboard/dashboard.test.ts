import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { openBrowser } from '../../helpers/browser.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
let browser: Browser;
let context: BrowserContext;
let page: Page;
const problems: string[] = [];

beforeAll(async () => {
  await server.deploy('nasty', functionFixture('nasty.ts'));
  browser = await openBrowser();
  context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  page = await context.newPage();
  page.on('console', (message) => {
    // A browser reports every status of 400 and above; one of them is the refused token below.
    if (message.type() === 'error' && !message.text().includes('401')) problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(String(error)));
});
afterAll(() => browser?.close());

async function shoot(name: string): Promise<void> {
  const folder = process.env['DASHBOARD_SHOTS'];
  if (folder) await page.screenshot({ path: `${folder}/${name}.png` });
}

test('is on an origin of its own, to which the gateway leads', async () => {
  const response = await fetch(`${server.url}/dashboard`, { redirect: 'manual' });
  const location = new URL(response.headers.get('location') ?? '');
  expect([response.status, location.hostname, location.pathname]).toEqual([302, '127.0.0.1', '/dashboard']);
  expect(location.port).not.toBe(new URL(server.url).port);
  const own = await fetch(location);
  expect(own.headers.get('content-security-policy')).toMatch(
    /^default-src 'none'; script-src 'self'; .*trusted-types 'none'$/,
  );
  const invoked = await fetch(`${location.origin}/f/nasty`);
  expect([invoked.status, invoked.headers.get('content-type')]).toEqual([404, 'application/problem+json']);
  const again = await fetch(`${location.href}/page.js`, {
    headers: { 'if-none-match': (await fetch(`${location.href}/page.js`)).headers.get('etag') ?? '' },
  });
  expect(again.status).toBe(304);
});

test('asks for a token, refuses a wrong one, and keeps the right one for the tab', async () => {
  await page.goto(`${server.url}/dashboard`);
  await page.getByLabel('Token').fill('skf_wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').waitFor();
  await shoot('login');
  await page.getByLabel('Token').fill(server.token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('link', { name: 'nasty' }).waitFor();
  await page.reload();
  await page.getByRole('link', { name: 'nasty' }).waitFor();
  expect(await context.cookies()).toEqual([]);
  expect(await page.evaluate(() => localStorage.length)).toBe(0);
});

test('shows calls as they happen', async () => {
  await page.getByRole('status').getByText('live').waitFor();
  for (let i = 0; i < 20; i++) await (await fetch(`${server.url}/f/nasty/fail`)).text();
  const row = page.getByRole('row').filter({ hasText: 'nasty' });
  await waitFor(
    'the errors of the last seconds',
    async () => Number(await row.getByRole('cell').nth(3).innerText()) >= 10,
  );
  expect(await row.getByRole('cell').nth(5).innerText()).toMatch(/ms$/);
  await shoot('overview');
});

test('shows a function with its deployments and log, and nothing a function says runs or misleads', async () => {
  await server.deploy('nasty', functionFixture('nasty.ts'), { memory: '512MB' });
  await page.getByRole('link', { name: 'nasty' }).click();
  await page.getByRole('button', { name: 'give all traffic' }).waitFor();
  await (await fetch(`${server.url}/f/nasty`)).text();
  const line = page.locator('.log div', { hasText: 'end of the line' }).last();
  await line.waitFor();
  expect(await line.innerText()).toContain('<script>globalThis.hacked = true</script><img src=x');
  expect(await line.innerText()).toContain('\ufffd\ufffd end of the line');
  expect(await page.evaluate(() => (globalThis as { hacked?: boolean }).hacked)).toBeUndefined();
  expect(await page.locator('.log img').count()).toBe(0);
  await shoot('function');

  page.once('dialog', (dialog) => void dialog.accept());
  const [older] = (await server.client.deployments('nasty')).slice(-1);
  await page.getByRole('button', { name: 'give all traffic' }).click();
  await waitFor(
    'the older deployment to be live',
    async () => (await server.client.get('nasty')).live?.targets[0]?.deployment === older?.id,
  );
});

test('shows the last calls, and where the time of one went', async () => {
  const response = await fetch(`${server.url}/f/nasty/fail`);
  await response.text();
  const id = response.headers.get('skiff-invocation-id') ?? '';
  await page.getByRole('link', { name: 'Calls' }).click();
  await page.getByRole('row').filter({ hasText: id }).filter({ hasText: 'handler_error' }).waitFor();
  await page.getByLabel('which').selectOption('failed');
  await page.getByRole('row').filter({ hasText: id }).waitFor();
  await shoot('calls');
  await page.getByRole('link', { name: id }).click();
  await page
    .locator('.waterfall')
    .getByText(/exec [\d.]+ m?s/)
    .waitFor();
  await page.locator('.log div', { hasText: '<script>' }).first().waitFor();
  await shoot('call');
});

test('shows dead letters and replays them; shows schedules, pauses and resumes them', async () => {
  await server.deploy('nasty', functionFixture('nasty.ts'), { async: { retries: 0 } });
  const { id } = await server.client.invokeAsync('nasty', { path: '/fail' });
  expect((await server.client.waitFor(id)).state).toBe('dead');
  await page.getByRole('link', { name: 'Events' }).click();
  const row = page.getByRole('row').filter({ hasText: id });
  await row.filter({ hasText: 'dead' }).waitFor();
  await shoot('events');
  await row.getByRole('button', { name: 'replay' }).click();
  await waitFor('the replay', async () => (await server.client.invocation(id)).replays === 1);

  await server.client.schedules.put('nasty-nightly', { function: 'nasty', cron: '0 3 * * *' });
  try {
    await page.getByRole('link', { name: 'Schedules' }).click();
    const schedule = page.getByRole('row').filter({ hasText: 'nasty-nightly' });
    await schedule.getByRole('button', { name: 'pause' }).click();
    await schedule.getByText('paused').waitFor();
    await shoot('schedules');
    await schedule.getByRole('button', { name: 'resume' }).click();
    await schedule.getByText(/^in \d+/).waitFor();
  } finally {
    await server.client.schedules.remove('nasty-nightly');
  }
});

test('shows builds, nodes and stores', async () => {
  await page.getByRole('link', { name: 'Builds' }).click();
  await page.getByRole('row').filter({ hasText: 'nasty' }).filter({ hasText: 'succeeded' }).first().waitFor();
  await shoot('builds');
  await page.getByRole('link', { name: 'Nodes' }).click();
  await page.getByRole('row').filter({ hasText: 'active' }).waitFor();
  await shoot('nodes');
  await page.getByRole('link', { name: 'Stores' }).click();
  await page.getByRole('row').filter({ hasText: 'redis durable' }).waitFor();
  await shoot('stores');
});

test('a page that a function answers with cannot reach the dashboard or its token', async () => {
  const other = await context.newPage();
  await other.goto(`${server.url}/f/nasty`);
  expect(await other.evaluate(() => (globalThis as { hacked?: boolean }).hacked)).toBe(true);
  const dashboard =
    (await fetch(`${server.url}/dashboard`, { redirect: 'manual' })).headers.get('location') ?? '';
  expect(await other.evaluate(() => sessionStorage.getItem('skiff-token'))).toBeNull();
  // Framing, scripting an opened window, and calling its API with whatever the browser adds by itself.
  const framed = await other.evaluate(async (url) => {
    const frame = document.createElement('iframe');
    frame.src = url;
    document.body.append(frame);
    await new Promise((resolve) => frame.addEventListener('load', resolve, { once: true }));
    try {
      return frame.contentDocument === null ? 'closed' : String(frame.contentDocument.body.innerText.length);
    } catch {
      return 'closed';
    }
  }, dashboard);
  expect(framed).toBe('closed');
  const opened = await other.evaluate(async (url) => {
    const child = open(url);
    await new Promise((resolve) => setTimeout(resolve, 500));
    try {
      return child?.document.body.innerText ?? 'no window';
    } catch (error) {
      return (error as Error).name;
    }
  }, dashboard);
  expect(opened).toMatch(/SecurityError|no window/);
  const called = await other.evaluate(
    (url) =>
      fetch(url, { credentials: 'include' }).then(
        (response) => String(response.status),
        (error: Error) => error.name,
      ),
    dashboard.replace('/dashboard', '/v1/functions'),
  );
  expect(called).toBe('TypeError');
  // A service worker of a function must not take over the origin that all functions share.
  const worker = await other.evaluate(() =>
    navigator.serviceWorker.register('/f/nasty/worker.js', { scope: '/' }).then(
      () => 'registered',
      (error: Error) => error.name,
    ),
  );
  expect(worker).toBe('SecurityError');
  await other.close();
});

test('signs out, and says nothing on the console that it should not', async () => {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').waitFor();
  expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  expect(problems).toEqual([]);
});
