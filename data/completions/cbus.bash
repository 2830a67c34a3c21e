# bash completion for cbus(1)                                              -*- shell-script -*-

# cbus itself knows what could come (cbus complete); here its words are put together and its answers taken in.
_cbus() {
    local rest=${COMP_LINE:0:COMP_POINT} words=() word glued cur kept

    # readline takes words apart at "=", ":" and "@", too: what had no space between it is one word.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        glued=yes
        while [[ $rest == [[:space:]]* ]]; do
            rest=${rest:1}
            glued=
        done
        [[ $rest == "$word"* ]] || word=$rest
        rest=${rest#"$word"}
        if [[ $glued && ${#words[@]} -gt 0 ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    words=("${words[@]//[\"\'\\]/}")
    cur=${words[-1]}
    kept=${cur%"${cur##*[=:@]}"}
    kept=${kept%@} # readline puts that one to the word behind it
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        case $word in
            :files)
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "${cur#"$kept"}")
                ;;
            :hosts) mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur") ;;
            :command) _cbus_command "$cur" ;;
            *) COMPREPLY+=("${word#"$kept"}") ;;
        esac
    done < <(command cbus complete -- "${words[@]:1}" 2>/dev/null)
}

# Another command line begins behind "--".
_cbus_command() {
    local at=0
    while [[ ${COMP_WORDS[at]} != -- ]]; do
        ((at++))
    done
    if declare -F _command_offset >/dev/null; then
        _command_offset $((at + 1))
    elif ((COMP_CWORD == at + 1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$1")
    else
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$1")
    fi
}
complete -F _cbus cbus
