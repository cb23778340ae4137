/**
 * Placement constraints, in Docker Swarm's words: `node.labels.zone==a`, `node.role!=manager`. All of a list must
 * hold. A label that a node does not have is different from every value.
 */
import { z } from 'zod';

const PATTERN =
  /^\s*(node\.(?:id|hostname|role|platform\.(?:os|arch))|(?:node|engine)\.labels\.[A-Za-z0-9._-]{1,63})\s*(==|!=)\s*([^\s=!].{0,252}?)\s*$/;

export const Constraint = z
  .string()
  .max(400)
  .regex(
    PATTERN,
    'a constraint is <field>==<value> or <field>!=<value>; fields are node.id, node.hostname, node.role, ' +
      'node.platform.os, node.platform.arch and node.labels.<name>',
  );

const SPREAD = /^\s*spread\s*=\s*((?:node|engine)\.labels\.[A-Za-z0-9._-]{1,63})\s*$/;

/** Docker's `--placement-pref`: replicas are spread evenly over the values that a label has. */
export const Preference = z.string().max(400).regex(SPREAD, 'a preference is spread=node.labels.<name>');

/** What the label of a preference is on a node; '' where there is none. */
export function readSpread(preference: string, node: NodeFacts): string {
  return readField(SPREAD.exec(preference)?.[1] ?? '', node) ?? '';
}

/** What constraints can ask of a node. */
export interface NodeFacts {
  readonly id: string;
  readonly hostname: string;
  readonly role?: string | undefined;
  readonly platform?: { readonly os: string; readonly arch: string } | undefined;
  readonly labels: Readonly<Record<string, string>>;
}

/** The first constraint that the node does not meet; undefined when it meets all. */
export function findUnmet(constraints: readonly string[], node: NodeFacts): string | undefined {
  return constraints.find((text) => !isMet(text, node));
}

function isMet(text: string, node: NodeFacts): boolean {
  const [, field, operator, value] = PATTERN.exec(text) ?? [];
  // A constraint of a newer version: nobody can promise to meet what he does not understand.
  if (field === undefined) return false;
  return (readField(field, node) === value) === (operator === '==');
}

function readField(field: string, node: NodeFacts): string | undefined {
  switch (field) {
    case 'node.id':
      return node.id;
    case 'node.hostname':
      return node.hostname;
    case 'node.role':
      return node.role;
    case 'node.platform.os':
      return node.platform?.os;
    case 'node.platform.arch':
      return node.platform?.arch;
    default:
      return node.labels[field.slice(field.indexOf('.labels.') + '.labels.'.length)];
  }
}
