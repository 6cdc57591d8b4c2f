-- Each hash of a password tells what it cost, so that costs may differ and rise (PHC string format).
update regie.account set password_hash = '$scrypt$ln=15,r=8,p=3$' || password_hash
where password_hash is not null and password_hash not like '$scrypt$%';
