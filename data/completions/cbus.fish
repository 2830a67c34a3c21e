# fish completion for cbus(1)

function __cbus_machines
    timeout 2 cbus machines --timeout 1 --json 2>/dev/null | sed -n 's/.*"Name":"\([A-Za-z0-9._-]*\)","NamePinned":true.*/\1/p'
end

function __cbus_verb
    set -l words (commandline -opc)
    test (count $words) -gt 1; and contains -- $words[2] $argv
end

complete -c cbus -f
complete -c cbus -n __fish_use_subcommand -a get -d 'read a property on many machines'
complete -c cbus -n __fish_use_subcommand -a invoke -d 'call a method on many machines'
complete -c cbus -n __fish_use_subcommand -a keyscan -d 'print NKeys from SSH host keys'
complete -c cbus -n __fish_use_subcommand -a machines -d 'list the machines'
complete -c cbus -n __fish_use_subcommand -a monitor -d 'show signals as they come'
complete -c cbus -n __fish_use_subcommand -a nkey -d 'print the NKey of an SSH public key'
complete -c cbus -n __fish_use_subcommand -a run -d 'run a command on a machine\'s bus'
complete -c cbus -n __fish_use_subcommand -a trust -d 'pin a name to an NKey'
complete -c cbus -n __fish_use_subcommand -a wait -d 'wait until a property has a value'

complete -c cbus -n '__cbus_verb get invoke monitor wait' -l nkeys -x -a '(__cbus_machines)' -d 'these machines'
complete -c cbus -n '__cbus_verb get invoke monitor wait' -l on -x -d '@TAG: machines with that tag'
complete -c cbus -n '__cbus_verb get invoke monitor wait' -l unpinned -d 'unpinned machines, too'
complete -c cbus -n '__cbus_verb get invoke' -l ordered -d 'print in a stable order'
complete -c cbus -n '__cbus_verb get invoke' -l batch -x -d 'machines at a time'
complete -c cbus -n '__cbus_verb get invoke' -l fail-fast -d 'stop at the first failure'
complete -c cbus -n '__cbus_verb invoke' -l args-json -x -d 'arguments as a JSON array'
complete -c cbus -n '__cbus_verb invoke' -l yes -d 'do not ask back'
complete -c cbus -n '__cbus_verb wait' -l any -d 'one machine is enough'
complete -c cbus -n '__cbus_verb machines' -l wait -x -d 'until N are online'
complete -c cbus -n '__cbus_verb machines' -l watch -d 'stay and show what changes'
complete -c cbus -n '__cbus_verb get invoke machines wait' -l timeout -x -d seconds
complete -c cbus -n '__cbus_verb get invoke keyscan machines monitor wait' -l json -d 'print JSON'
complete -c cbus -n '__cbus_verb get invoke machines monitor run wait' -l bus -x -a 'session system' -d 'the proxy\'s bus'
complete -c cbus -n '__cbus_verb run' -a '(__cbus_machines)'
complete -c cbus -n '__cbus_verb keyscan' -l port -x -d 'port of sshd'
complete -c cbus -n '__cbus_verb keyscan' -l stdin -d 'more hosts from standard input'
complete -c cbus -n '__cbus_verb nkey' -l public-key -x -d 'the key itself'
complete -c cbus -n '__cbus_verb nkey' -l public-key-file -r -F -d 'a file that holds it'
complete -c cbus -n '__cbus_verb trust' -l known-machines -r -F -d 'the file to change'
