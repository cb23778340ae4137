/** A table of rows, and a line that shows how a number went. */
import { type ComponentChildren, h, type JSX } from 'preact';

export interface Column<Row> {
  readonly title: string;
  readonly isNumber?: boolean;
  readonly isWide?: boolean;
  readonly value: (row: Row) => ComponentChildren;
}

export function Table<Row>(props: {
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
  readonly empty: string;
}): JSX.Element {
  const { columns, rows, keyOf, empty } = props;
  if (rows.length === 0) return h('p', { class: 'soft' }, empty);
  const classOf = ({ isNumber, isWide }: Column<Row>): string => (isNumber ? 'number' : isWide ? 'wide' : '');
  return h(
    'div',
    { class: 'scroll' },
    h(
      'table',
      null,
      h(
        'thead',
        null,
        h('tr', null, ...columns.map((column) => h('th', { class: classOf(column) }, column.title))),
      ),
      h(
        'tbody',
        null,
        ...rows.map((row) =>
          h(
            'tr',
            { key: keyOf(row) },
            ...columns.map((column) => h('td', { class: classOf(column) }, column.value(row))),
          ),
        ),
      ),
    ),
  );
}

const WIDTH = 120;
const HEIGHT = 24;

export function Spark({ values }: { readonly values: readonly number[] }): JSX.Element {
  const top = Math.max(1, ...values);
  const step = WIDTH / Math.max(1, values.length - 1);
  const points = values.map(
    (value, i) => `${(i * step).toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`,
  );
  const path = points.length < 2 ? '' : `M${points.join('L')}`;
  return h(
    'svg',
    { class: 'spark', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, 'aria-hidden': 'true' },
    h('path', { d: path }),
  );
}

export function Notice({ text }: { readonly text: string | undefined }): JSX.Element | null {
  return text === undefined ? null : h('p', { class: 'notice', role: 'alert' }, text);
}
