/** Asks for a token, and tries it before it is kept. */
import { h, type JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { TokenRecord } from '../../../../sdk/protocol/api.ts';
import { createApi, keepToken } from '../api.ts';
import { Notice } from '../parts/table.ts';

export function Login({
  onLogin,
}: {
  readonly onLogin: (token: string, record: TokenRecord) => void;
}): JSX.Element {
  const [token, setToken] = useState('');
  const [error, setError] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const submit = (event: Event): void => {
    event.preventDefault();
    setBusy(true);
    const text = token.trim();
    createApi(text)
      .get<TokenRecord>('/v1/whoami')
      .then(
        (record) => {
          keepToken(text);
          onLogin(text, record);
        },
        (failure: Error) => setError(failure.message),
      )
      .finally(() => setBusy(false));
  };
  return h(
    'form',
    { class: 'login', onSubmit: submit },
    h('h1', null, 'Skiff'),
    h(Notice, { text: error }),
    h('label', { for: 'token' }, 'Token'),
    h('input', {
      id: 'token',
      type: 'password',
      autocomplete: 'current-password',
      required: true,
      autofocus: true,
      value: token,
      onInput: (event: Event) => setToken((event.currentTarget as HTMLInputElement).value),
    }),
    h('button', { class: 'primary', type: 'submit', disabled: isBusy }, 'Sign in'),
    h(
      'p',
      { class: 'soft' },
      'On the server\u2019s host the first token is in the file admin.token of the data folder; others are made with ',
      h('span', { class: 'mono' }, 'skiff token create viewer --scope read'),
      '. It is kept until this tab is closed.',
    ),
  );
}
