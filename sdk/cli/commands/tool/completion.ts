/** `skiff completion`: the script that a shell loads. All three ask `skiff complete` and evaluate nothing typed. */
import { type Command, Argument } from '@commander-js/extra-typings';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ source <(skiff completion bash)                                        this shell
  $ skiff completion bash > /etc/bash_completion.d/skiff                   every shell of this host
  $ skiff completion zsh > "\${fpath[1]}/_skiff"                            zsh
  $ skiff completion fish > ~/.config/fish/completions/skiff.fish          fish
`;

const BASH = `# bash completion of skiff; load it with: source <(skiff completion bash)
_skiff() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <(skiff complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _skiff skiff
`;

const ZSH = `#compdef skiff
# zsh completion of skiff; save it as _skiff in a folder of fpath, or: source <(skiff completion zsh)
_skiff() {
  local line
  local -a candidates
  for line in "\${(@f)$(skiff complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $line ]] && candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done
  if (( \${#candidates} )); then
    _describe skiff candidates
  else
    _files
  fi
}
if [[ \${funcstack[1]-} == _skiff ]]; then
  _skiff "$@"
else
  compdef _skiff skiff
fi
`;

const FISH = `# fish completion of skiff; save it as ~/.config/fish/completions/skiff.fish
function __skiff_candidates
    set -l words (commandline -opc)
    skiff complete -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c skiff -f -a '(__skiff_candidates)'
complete -c skiff -n '__fish_seen_subcommand_from deploy up publish' -F
`;

const SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH } as const;
const SHELLS = ['bash', 'zsh', 'fish'] as const;

export function define(command: Command, session: Session): void {
  command
    .addArgument(new Argument('<shell>', 'your shell').choices(SHELLS))
    .addHelpText('after', EXAMPLES)
    .action(async (shell) => {
      await session.output.out.write(SCRIPTS[shell]);
    });
}
