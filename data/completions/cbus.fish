# fish completion for cbus(1)

# cbus itself knows what could come (cbus complete); here its answers are taken in.
function __cbus_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -e words[1]
    for line in (command cbus complete -- $words "$current" 2>/dev/null)
        switch $line
            case :files
                set -l kept (string match -r -- '^--[a-z-]*=' $current)
                for path in (__fish_complete_path (string replace -r -- '^--[a-z-]*=' '' $current))
                    echo "$kept$path"
                end
            case :hosts
                __fish_print_hostnames
            case :command
                # Another command line begins behind "--".
                set -l at (contains -i -- -- $words)
                set -e words[1..$at]
                complete -C (string join ' ' -- (string escape -- $words) "$current")
            case '*'
                echo $line
        end
    end
end

complete -c cbus -f -a '(__cbus_complete)'
