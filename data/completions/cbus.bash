# bash completion for cbus(1)                                              -*- shell-script -*-

# What cbus-proxy knows; nothing when there is none. A slow bus must not hang the prompt.
_cbus_machines() {
    timeout 2 cbus machines --timeout 1 --json 2>/dev/null |
        sed -n 's/.*"Name":"\([A-Za-z0-9._-]*\)","NamePinned":true.*/\1/p'
}

# Services, then objects, then members, as the first machine that is online shows them.
_cbus_remote() {
    local bus=(--user) nkey root=/ie/bmcgee/CBus
    case ${CBUS_BUS:-session} in
        session) ;;
        system) bus=(--system) ;;
        *) bus=("--address=$CBUS_BUS") ;;
    esac
    nkey=$(timeout 2 cbus machines --timeout 1 --json 2>/dev/null | sed -n 's/.*"NKey":"\([A-Z2-7]*\)".*"Online":true.*/\1/p' | head -n 1)
    [[ -n $nkey ]] || return
    local service="$root/$nkey/${1//./_2e}"
    service=${service//-/_2d}
    # compgen -W expands what it is given: nothing but the letters of D-Bus names may come from machines.
    case $# in
        0) timeout 2 busctl "${bus[@]}" get-property ie.bmcgee.CBus "$root/$nkey" ie.bmcgee.CBus1.Machine Services 2>/dev/null |
            tr ' ' '\n' | sed -n 's/^"\(.*\)"$/\1/p' ;;
        1) timeout 3 busctl "${bus[@]}" tree --list ie.bmcgee.CBus 2>/dev/null | sed -n "s|^$service/|/|p" ;;
        *) timeout 3 busctl "${bus[@]}" introspect ie.bmcgee.CBus "$service$2" 2>/dev/null |
            awk -v kind="$3" '$2 == "interface" { at = $1 } $2 == kind { sub(/^\./, "", $1); print at "." $1; print $1 }' ;;
    esac | grep -x '[A-Za-z0-9_/.-]*'
}

_cbus() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} words before kind=method
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "get invoke keyscan machines monitor nkey run trust wait --help --version" -- "$cur")
        return
    fi
    case $prev in
        --bus)
            mapfile -t COMPREPLY < <(compgen -W "session system unix:path=" -- "$cur")
            return
            ;;
        --nkeys | --on)
            before=
            [[ $cur == *,* ]] && before=${cur%,*},
            mapfile -t COMPREPLY < <(compgen -P "$before" -W "$(_cbus_machines)" -- "${cur##*,}")
            return
            ;;
        --public-key-file | --known-machines)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --wait | --timeout | --port | --public-key | --batch | --args-json)
            return
            ;;
    esac
    case $verb in
        get) words="--nkeys --on --unpinned --timeout --ordered --batch --fail-fast --json --bus --help" ;;
        invoke) words="--nkeys --on --unpinned --timeout --ordered --batch --fail-fast --args-json --yes --json --bus --help" ;;
        machines) words="--wait --watch --timeout --json --bus --help" ;;
        keyscan) words="--port --stdin --json --help" ;;
        monitor) words="--nkeys --on --unpinned --json --bus --help" ;;
        nkey) words="--public-key --public-key-file --help" ;;
        run)
            if ((COMP_CWORD == 2)) && [[ $cur != -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$(ls "${XDG_RUNTIME_DIR:-/nonexistent}/cbus/by-name" 2>/dev/null)" -- "$cur")
                return
            fi
            [[ $cur != -* ]] && mapfile -t COMPREPLY < <(compgen -c -- "$cur") && return
            words="--bus --help --"
            ;;
        wait) words="--nkeys --on --unpinned --any --timeout --json --bus --help" ;;
        trust) words="--known-machines --help" ;;
        *) return ;;
    esac
    if [[ $cur != -* ]]; then
        [[ $verb != invoke ]] && kind=property
        case $verb:$COMP_CWORD in
            get:2 | invoke:2 | wait:2) words=$(_cbus_remote) ;;
            get:3 | invoke:3 | wait:3) words=$(_cbus_remote "${COMP_WORDS[2]}") ;;
            get:4 | invoke:4 | wait:4) words=$(_cbus_remote "${COMP_WORDS[2]}" "${COMP_WORDS[3]}" "$kind") ;;
        esac
    fi
    [[ $verb == keyscan && $cur != -* ]] && mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur") && return
    [[ $cur == -* || $verb != trust ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _cbus cbus
