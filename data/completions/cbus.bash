# bash completion for cbus(1)                                              -*- shell-script -*-

_cbus() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} words
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "keyscan machines nkey run trust --help --version" -- "$cur")
        return
    fi
    case $prev in
        --bus)
            mapfile -t COMPREPLY < <(compgen -W "session system unix:path=" -- "$cur")
            return
            ;;
        --public-key-file | --known-machines)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --wait | --timeout | --port | --public-key)
            return
            ;;
    esac
    case $verb in
        machines) words="--wait --timeout --json --bus --help" ;;
        keyscan) words="--port --stdin --json --help" ;;
        nkey) words="--public-key --public-key-file --help" ;;
        run)
            if ((COMP_CWORD == 2)) && [[ $cur != -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$(ls "${XDG_RUNTIME_DIR:-/nonexistent}/cbus/by-name" 2>/dev/null)" -- "$cur")
                return
            fi
            [[ $cur != -* ]] && mapfile -t COMPREPLY < <(compgen -c -- "$cur") && return
            words="--bus --help --"
            ;;
        trust) words="--known-machines --help" ;;
        *) return ;;
    esac
    [[ $verb == keyscan && $cur != -* ]] && mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur") && return
    [[ $cur == -* || $verb != trust ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _cbus cbus
