/** `--network` and its like: a word, or places that may be reached. */

/** One word of the two, or an allow list. */
export function readNetwork(
  values: readonly string[] | undefined,
): string | { allow: readonly string[] } | undefined {
  const [first] = values ?? [];
  if (values === undefined || first === undefined) return undefined;
  return values.length === 1 && !/[:./]/.test(first) ? first : { allow: values };
}
