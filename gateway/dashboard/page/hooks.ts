/** What views share: data that is fetched again now and then, and streams that are opened again when they are cut. */
import { useEffect, useState } from 'preact/hooks';
import { type Api, ApiError } from './api.ts';

export interface Loaded<T> {
  readonly value: T | undefined;
  readonly error: string | undefined;
  readonly reload: () => void;
}

/** Fetches `path`, and again every `everyMs` while the view is shown. */
export function useResource<T>(api: Api, path: string, everyMs: number, onDenied: () => void): Loaded<T> {
  const [value, setValue] = useState<T>();
  const [error, setError] = useState<string>();
  const [round, setRound] = useState(0);
  useEffect(() => {
    const ending = new AbortController();
    const load = (): void => {
      api.get<T>(path, ending.signal).then(
        (loaded) => {
          setValue(loaded);
          setError(undefined);
        },
        (failure: unknown) => {
          if (ending.signal.aborted) return;
          if (failure instanceof ApiError && failure.status === 401) onDenied();
          setError(failure instanceof Error ? failure.message : String(failure));
        },
      );
    };
    load();
    const timer = setInterval(load, everyMs);
    return () => {
      clearInterval(timer);
      ending.abort();
    };
  }, [path, round]);
  return { value, error, reload: () => setRound(round + 1) };
}

const REOPEN_MS = 2_000;

/** Calls `onValue` with every value of a stream; a stream that ends is opened again. */
export function useStream<T>(
  api: Api,
  path: string,
  onValue: (value: T) => void,
  onState: (isOpen: boolean, failure?: unknown) => void,
): void {
  useEffect(() => {
    const ending = new AbortController();
    const loop = async (): Promise<void> => {
      while (!ending.signal.aborted) {
        try {
          await api.follow<T>(path, ending.signal, (value) => {
            onState(true);
            onValue(value);
          });
          onState(false);
        } catch (failure) {
          if (!ending.signal.aborted) onState(false, failure);
        }
        await new Promise((resolve) => setTimeout(resolve, REOPEN_MS));
      }
    };
    void loop();
    return () => ending.abort();
  }, [path]);
}
